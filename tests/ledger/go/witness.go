// Checks our cosignatures and receipts with golang.org/x/mod/sumdb, and is a log that has itself cosigned by our witness.
//
// Reads one JSON object from standard input, writes one to standard output. Needs GO111MODULE=off and a GOPATH that
// holds golang.org/x/mod (Debian: golang-go, golang-golang-x-mod-dev).
package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type request struct {
	LogVKey     string `json:"log_vkey"`
	WitnessVKey string `json:"witness_vkey"`
	Note        string `json:"note"`    // signed by the log, cosigned by the witness
	Receipt     string `json:"receipt"` // of the entry
	Entry       []byte `json:"entry"`
	URL         string `json:"url"`  // of a witness that knows the log with this private key
	SKey        string `json:"skey"` // of that log
}

type answer struct {
	Statuses []int  `json:"statuses"`
	Note     string `json:"note"` // of the log, cosigned by a key made here
	VKey     string `json:"vkey"` // of that key, type 04
}

// cosigner is a note.Verifier for keys of type 04, which the package does not know.
type cosigner struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

func (c cosigner) Name() string    { return c.name }
func (c cosigner) KeyHash() uint32 { return c.hash }
func (c cosigner) Verify(msg, sig []byte) bool {
	if len(sig) != 8+ed25519.SignatureSize {
		return false
	}
	return ed25519.Verify(c.key, signed(binary.BigEndian.Uint64(sig), msg), sig[8:])
}

func signed(time uint64, msg []byte) []byte {
	return append([]byte(fmt.Sprintf("cosignature/v1\ntime %d\n", time)), msg...)
}

func keyHash(name string, key ed25519.PublicKey) uint32 {
	sum := sha256.Sum256(append([]byte(name+"\n\x04"), key...))
	return binary.BigEndian.Uint32(sum[:])
}

func newCosigner(vkey string) cosigner {
	parts := strings.SplitN(vkey, "+", 3)
	hash, err := strconv.ParseUint(parts[1], 16, 32)
	must(err)
	key, err := base64.StdEncoding.DecodeString(parts[2])
	must(err)
	if len(key) != 33 || key[0] != 4 || uint32(hash) != keyHash(parts[0], key[1:]) {
		log.Fatalf("not a key of type 04, or with another ID: %s", vkey)
	}
	return cosigner{parts[0], uint32(hash), key[1:]}
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

type store []tlog.Hash

func (s store) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		out[i] = s[x]
	}
	return out, nil
}

func newStore(n int64, prefix string) store {
	var s store
	for i := int64(0); i < n; i++ {
		more, err := tlog.StoredHashes(i, []byte(fmt.Sprintf("%s %d", prefix, i)), s)
		must(err)
		s = append(s, more...)
	}
	return s
}

func (s store) note(n int64, signer note.Signer) []byte {
	root, err := tlog.TreeHash(n, s)
	must(err)
	text := fmt.Sprintf("%s\n%d\n%s\n", signer.Name(), n, root)
	signed, err := note.Sign(&note.Note{Text: text}, signer)
	must(err)
	return signed
}

func (s store) ask(url string, old, n int64, signer note.Signer) (int, []byte, []byte) {
	var body bytes.Buffer
	fmt.Fprintf(&body, "old %d\n", old)
	if 0 < old && old < n {
		proof, err := tlog.ProveTree(n, old, s)
		must(err)
		for _, hash := range proof {
			fmt.Fprintf(&body, "%s\n", hash)
		}
	}
	checkpoint := s.note(n, signer)
	body.WriteString("\n")
	body.Write(checkpoint)
	response, err := http.Post(url+"/add-checkpoint", "text/plain", &body)
	must(err)
	defer response.Body.Close()
	said, err := io.ReadAll(response.Body)
	must(err)
	return response.StatusCode, said, checkpoint
}

func checkReceipt(req request, known note.Verifiers) {
	head, checkpoint, found := strings.Cut(req.Receipt, "\n\n")
	if !found {
		log.Fatal("the receipt has no checkpoint")
	}
	opened, err := note.Open([]byte(checkpoint), known)
	must(err)
	tree := strings.Split(opened.Text, "\n")
	size, err := strconv.ParseInt(tree[1], 10, 64)
	must(err)
	root, err := tlog.ParseHash(tree[2])
	must(err)
	lines := strings.Split(head, "\n")
	if lines[0] != "c2sp.org/tlog-proof@v1" || !strings.HasPrefix(lines[1], "extra ") {
		log.Fatalf("the receipt starts with %q", lines[:2])
	}
	index, err := strconv.ParseInt(strings.TrimPrefix(lines[2], "index "), 10, 64)
	must(err)
	var proof tlog.RecordProof
	for _, line := range lines[3:] {
		hash, err := tlog.ParseHash(line)
		must(err)
		proof = append(proof, hash)
	}
	must(tlog.CheckRecord(proof, size, root, index, tlog.RecordHash(req.Entry)))
	if tlog.CheckRecord(proof, size, root, index, tlog.RecordHash(append(req.Entry, 0))) == nil {
		log.Fatal("accepted another entry")
	}
}

func main() {
	var req request
	must(json.NewDecoder(os.Stdin).Decode(&req))
	var ans answer
	verifier, err := note.NewVerifier(req.LogVKey)
	must(err)
	witness := newCosigner(req.WitnessVKey)
	opened, err := note.Open([]byte(req.Note), note.VerifierList(verifier, witness))
	must(err)
	if len(opened.Sigs) != 2 || len(opened.UnverifiedSigs) != 0 {
		log.Fatalf("%d signatures verify, %d are unknown", len(opened.Sigs), len(opened.UnverifiedSigs))
	}
	checkReceipt(req, note.VerifierList(verifier, witness))

	signer, err := note.NewSigner(req.SKey)
	must(err)
	honest, forked := newStore(300, "entry"), newStore(300, "other")
	for _, step := range []struct {
		s      store
		old, n int64
		body   string
	}{
		{honest, 0, 1, ""}, {honest, 1, 2, ""}, {honest, 2, 2, ""}, {honest, 2, 70, ""}, {honest, 70, 256, ""},
		{honest, 70, 300, "256\n"}, {honest, 0, 5, "256\n"}, {forked, 256, 256, "-"}, {forked, 256, 300, "-"},
		{honest, 256, 300, ""},
	} {
		status, said, checkpoint := step.s.ask(req.URL, step.old, step.n, signer)
		ans.Statuses = append(ans.Statuses, status)
		if status == http.StatusOK {
			_, err := note.Open(append(checkpoint, said...), note.VerifierList(witness))
			must(err)
		} else if step.body != "-" && step.body != string(said) {
			log.Fatalf("the witness said %q, not %q", said, step.body)
		}
	}

	_, private, err := ed25519.GenerateKey(nil)
	must(err)
	name, public := "go.example/witness", private.Public().(ed25519.PublicKey)
	hash := keyHash(name, public)
	text := []byte(opened.Text)
	line := binary.BigEndian.AppendUint32(nil, hash)
	line = binary.BigEndian.AppendUint64(line, 1700000000)
	line = append(line, ed25519.Sign(private, signed(1700000000, text))...)
	ans.Note = req.Note + "\u2014 " + name + " " + base64.StdEncoding.EncodeToString(line) + "\n"
	ans.VKey = fmt.Sprintf("%s+%08x+%s", name, hash, base64.StdEncoding.EncodeToString(append([]byte{4}, public...)))
	must(json.NewEncoder(os.Stdout).Encode(ans))
}
