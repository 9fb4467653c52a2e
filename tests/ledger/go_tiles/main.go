// Reads a log of samebits as tiles, from a directory or over HTTP, with golang.org/x/mod/sumdb: checks the checkpoint,
// and for each tree size and each entry that it is given the record and tree proofs, all through a TileReader.
//
// Reads one JSON object from standard input; writes "ok N", N = how many tiles were read, or ends with an error. Needs
// GO111MODULE=off and a GOPATH that holds golang.org/x/mod (Debian: golang-go, golang-golang-x-mod-dev).
package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type request struct {
	Place   string           `json:"place"` // a directory, or http://...
	VKey    string           `json:"vkey"`
	Sizes   []int64          `json:"sizes"`   // of trees that must be prefixes of the checkpoint's
	Roots   [][]byte         `json:"roots"`   // theirs
	Entries map[string][]byte `json:"entries"` // index -> bytes
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func read(place, path string) ([]byte, error) {
	if !strings.HasPrefix(place, "http://") {
		return os.ReadFile(filepath.Join(place, path))
	}
	answer, err := http.Get(place + "/" + path)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != 200 {
		return nil, fmt.Errorf("%s: %s", path, answer.Status)
	}
	return io.ReadAll(answer.Body)
}

// tlog-tiles leaves the height out of a path, and says entries where Go says data.
func path(tile tlog.Tile) string {
	return strings.Replace(strings.Replace(tile.Path(), "tile/8/", "tile/", 1), "tile/data/", "tile/entries/", 1)
}

type tileReader struct {
	place string
	count int
}

func (r *tileReader) Height() int { return 8 }

func (r *tileReader) SaveTiles(tiles []tlog.Tile, data [][]byte) {}

func (r *tileReader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var out [][]byte
	for _, tile := range tiles {
		data, err := read(r.place, path(tile))
		if err != nil {
			return nil, err
		}
		r.count++
		out = append(out, data)
	}
	return out, nil
}

func hash(raw []byte) tlog.Hash {
	var h tlog.Hash
	if copy(h[:], raw) != len(raw) || len(raw) != tlog.HashSize {
		log.Fatal("a hash is not 32 bytes")
	}
	return h
}

func openCheckpoint(place, vkey string) tlog.Tree {
	data, err := read(place, "checkpoint")
	must(err)
	verifier, err := note.NewVerifier(vkey)
	must(err)
	opened, err := note.Open(data, note.VerifierList(verifier))
	must(err)
	lines := strings.Split(opened.Text, "\n")
	size, err := strconv.ParseInt(lines[1], 10, 64)
	must(err)
	root, err := base64.StdEncoding.DecodeString(lines[2])
	must(err)
	return tlog.Tree{N: size, Hash: hash(root)}
}

func entry(r *tileReader, tree tlog.Tree, index int64) []byte {
	width := int(tree.N - index/256*256)
	if width > 256 {
		width = 256
	}
	bundle, err := read(r.place, path(tlog.Tile{H: 8, L: -1, N: index / 256, W: width}))
	must(err)
	for i := int64(0); ; i++ {
		size := int(bundle[0])<<8 | int(bundle[1])
		if i == index%256 {
			return bundle[2 : 2+size]
		}
		bundle = bundle[2+size:]
	}
}

func main() {
	var req request
	must(json.NewDecoder(os.Stdin).Decode(&req))
	reader := &tileReader{place: req.Place}
	tree := openCheckpoint(req.Place, req.VKey)
	hashes := tlog.TileHashReader(tree, reader)

	for i, size := range req.Sizes {
		root, err := tlog.TreeHash(size, hashes)
		must(err)
		if root != hash(req.Roots[i]) {
			log.Fatalf("the tree of %d has another root", size)
		}
		proof, err := tlog.ProveTree(tree.N, size, hashes)
		must(err)
		must(tlog.CheckTree(proof, tree.N, tree.Hash, size, root))
	}
	for text, want := range req.Entries {
		index, err := strconv.ParseInt(text, 10, 64)
		must(err)
		found := entry(reader, tree, index)
		if string(found) != string(want) {
			must(errors.New("entry " + text + " has other bytes"))
		}
		proof, err := tlog.ProveRecord(tree.N, index, hashes)
		must(err)
		must(tlog.CheckRecord(proof, tree.N, tree.Hash, index, tlog.RecordHash(found)))
	}
	fmt.Println("ok", reader.count)
}
