// Checks what samebits.ledger wrote with golang.org/x/mod/sumdb, and writes notes and proofs for samebits to check.
//
// Reads one JSON object from standard input, writes one to standard output. Needs GO111MODULE=off and a GOPATH that
// holds golang.org/x/mod (Debian: golang-go, golang-golang-x-mod-dev).
package main

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type request struct {
	VKey        string     `json:"vkey"`
	SKey        string     `json:"skey"`
	Note        string     `json:"note"`
	Entries     [][]byte   `json:"entries"`
	Inclusion   [][][]byte `json:"inclusion"`   // proof of entry i in the whole tree
	Consistency [][][]byte `json:"consistency"` // proof from size i+1 to the whole tree
}

type answer struct {
	Origin      string     `json:"origin"`
	Roots       [][]byte   `json:"roots"` // of the trees of 1, 2, ... entries
	Inclusion   [][][]byte `json:"inclusion"`
	Consistency [][][]byte `json:"consistency"`
	Note        string     `json:"note"` // signed with skey and with a new key
	VKey        string     `json:"vkey"` // of the new key
	SKey        string     `json:"skey"`
}

type store []tlog.Hash

func (s store) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		out[i] = s[x]
	}
	return out, nil
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func refuse(err error, what string) {
	if err == nil {
		log.Fatalf("accepted %s", what)
	}
}

func hashes(raw [][]byte) []tlog.Hash {
	var out []tlog.Hash
	for _, b := range raw {
		var h tlog.Hash
		if copy(h[:], b) != len(b) || len(b) != tlog.HashSize {
			log.Fatal("a hash is not 32 bytes")
		}
		out = append(out, h)
	}
	return out
}

func bytesOf(proof []tlog.Hash) [][]byte {
	out := [][]byte{}
	for i := range proof {
		out = append(out, proof[i][:])
	}
	return out
}

func openCheckpoint(req request) (string, int64, tlog.Hash) {
	verifier, err := note.NewVerifier(req.VKey)
	must(err)
	known := note.VerifierList(verifier)
	opened, err := note.Open([]byte(req.Note), known)
	must(err)
	for _, i := range []int{0, len(req.Note) / 2, len(req.Note) - 8} {
		bad := []byte(req.Note)
		bad[i] ^= 1
		_, err := note.Open(bad, known)
		refuse(err, fmt.Sprintf("a note with byte %d flipped", i))
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 {
		log.Fatalf("checkpoint of %d lines", len(lines)-1)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	must(err)
	root, err := base64.StdEncoding.DecodeString(lines[2])
	must(err)
	return lines[0], size, hashes([][]byte{root})[0]
}

func main() {
	var req request
	must(json.NewDecoder(os.Stdin).Decode(&req))
	var ans answer
	origin, size, root := openCheckpoint(req)
	ans.Origin = origin
	if size != int64(len(req.Entries)) {
		log.Fatalf("checkpoint says %d entries, got %d", size, len(req.Entries))
	}

	var stored store
	var trees []tlog.Hash
	for i, entry := range req.Entries {
		more, err := tlog.StoredHashes(int64(i), entry, stored)
		must(err)
		stored = append(stored, more...)
		tree, err := tlog.TreeHash(int64(i)+1, stored)
		must(err)
		trees = append(trees, tree)
	}
	ans.Roots = bytesOf(trees)

	wrong := root
	wrong[7] ^= 1
	for i, entry := range req.Entries {
		n := int64(i)
		leaf := tlog.RecordHash(entry)
		must(tlog.CheckRecord(hashes(req.Inclusion[i]), size, root, n, leaf))
		refuse(tlog.CheckRecord(hashes(req.Inclusion[i]), size, wrong, n, leaf), "a wrong root")
		must(tlog.CheckTree(hashes(req.Consistency[i]), size, root, n+1, trees[i]))
		if n+1 < size {
			refuse(tlog.CheckTree(hashes(req.Consistency[i]), size, wrong, n+1, trees[i]), "a wrong root")
		}
		record, err := tlog.ProveRecord(size, n, stored)
		must(err)
		ans.Inclusion = append(ans.Inclusion, bytesOf(record))
		tree, err := tlog.ProveTree(size, n+1, stored)
		must(err)
		ans.Consistency = append(ans.Consistency, bytesOf(tree))
	}

	signer, err := note.NewSigner(req.SKey)
	must(err)
	skey, vkey, err := note.GenerateKey(rand.Reader, "go.example/log")
	must(err)
	second, err := note.NewSigner(skey)
	must(err)
	signed, err := note.Sign(&note.Note{Text: "a text\n\nwith a blank line\n"}, signer, second)
	must(err)
	ans.Note, ans.SKey, ans.VKey = string(signed), skey, vkey
	must(json.NewEncoder(os.Stdout).Encode(ans))
}
