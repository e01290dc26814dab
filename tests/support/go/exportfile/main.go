// Reads and writes export files with the packages that a Convox rack uses, archive/tar and compress/gzip.
//
// "read" takes a file on stdin and prints, as one JSON object, the SHA-256 of each member that an import looks at.
// "write RECORD FOLDER" writes a file to stdout: the record first, then FOLDER as a walk finds it, its own path cut off.
package main

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) == 2 && os.Args[1] == "read" {
		check(read(os.Stdin))
	} else if len(os.Args) == 4 && os.Args[1] == "write" {
		check(write(os.Args[2], os.Args[3], os.Stdout))
	} else {
		log.Fatal("usage: exportfile read | write RECORD FOLDER")
	}
}

func read(in io.Reader) error {
	unpacked, err := gzip.NewReader(in)
	if err != nil {
		return err
	}
	found := map[string]string{}
	for members := tar.NewReader(unpacked); ; {
		member, err := members.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		wanted := member.Name == "build.json" || strings.HasSuffix(member.Name, ".tar")
		if member.Typeflag != tar.TypeReg || !wanted {
			continue
		}
		hash := sha256.New()
		if _, err := io.Copy(hash, members); err != nil {
			return err
		}
		found[member.Name] = hex.EncodeToString(hash.Sum(nil))
	}
	if _, err := io.Copy(io.Discard, unpacked); err != nil { // the checksum comes last
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(found)
}

func write(record, folder string, out io.Writer) error {
	packer := gzip.NewWriter(out)
	members := tar.NewWriter(packer)
	data, err := os.ReadFile(record)
	if err != nil {
		return err
	}
	head := &tar.Header{Typeflag: tar.TypeReg, Name: "build.json", Mode: 0o600, Size: int64(len(data))}
	if err := members.WriteHeader(head); err != nil {
		return err
	}
	if _, err := members.Write(data); err != nil {
		return err
	}
	err = filepath.Walk(folder, func(path string, info fs.FileInfo, err error) error {
		if err != nil {
			return err
		}
		head, err := tar.FileInfoHeader(info, path)
		if err != nil {
			return err
		}
		head.Name = strings.TrimPrefix(strings.TrimPrefix(path, folder), "/")
		if err := members.WriteHeader(head); err != nil || info.IsDir() {
			return err
		}
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		_, err = io.Copy(members, file)
		return err
	})
	if err != nil {
		return err
	}
	if err := members.Close(); err != nil {
		return err
	}
	return packer.Close()
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
