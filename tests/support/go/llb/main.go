// Writes build graphs with Go's llb package, for the Python ones of the same names to be compared with.
//
//	llb record             all graphs as JSON: name, digests, and the whole definition with sorted maps
//	llb marshal NAME BASE  one graph as raw LLB, on the base image BASE
//	llb build              recipes as of recipe.go, one a line; the digests of all operations of each
//	llb words              JSON texts, one a line, cut into words; null where that is an error
//	llb git                JSON texts, one a line, read as addresses; null where that is an error
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/google/shlex"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/gitutil"
	digest "github.com/opencontainers/go-digest"
	"google.golang.org/protobuf/proto"
)

const recordedBase = "docker.io/library/busybox:latest"

type recorded struct {
	Name       string   `json:"name"`
	Ops        []string `json:"ops"`
	Definition []byte   `json:"definition"`
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 1 && args[0] == "record":
		return record()
	case len(args) == 3 && args[0] == "marshal":
		graph, ok := graphs[args[1]]
		if !ok {
			return fmt.Errorf("no graph %q", args[1])
		}
		def, err := marshal(graph, args[2])
		if err != nil {
			return err
		}
		return llb.WriteTo(def, os.Stdout)
	case len(args) == 1 && args[0] == "build":
		return buildAll()
	case len(args) == 1 && args[0] == "words":
		return answer(func(text string) any {
			words, err := shlex.Split(text)
			if err != nil {
				return nil
			}
			return words
		})
	case len(args) == 1 && args[0] == "git":
		return answer(gitAddress)
	}
	return fmt.Errorf("usage: llb record | marshal NAME BASE | build | words | git")
}

func marshal(graph graph, base string) (*llb.Definition, error) {
	opts := graph.opts
	if opts == nil {
		opts = []llb.ConstraintsOpt{llb.LinuxAmd64}
	}
	opts = append([]llb.ConstraintsOpt{llb.LocalUniqueID("unique")}, opts...)
	return graph.state(base).Marshal(context.Background(), opts...)
}

func record() error {
	names := make([]string, 0, len(graphs))
	for name := range graphs {
		names = append(names, name)
	}
	slices.Sort(names)
	var all []recorded
	for _, name := range names {
		def, err := marshal(graphs[name], recordedBase)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		data, err := proto.MarshalOptions{Deterministic: true}.Marshal(def.ToPB())
		if err != nil {
			return err
		}
		one := recorded{Name: name, Ops: []string{}, Definition: data}
		for _, op := range def.Def {
			one.Ops = append(one.Ops, digest.FromBytes(op).String())
		}
		all = append(all, one)
	}
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", " ")
	return out.Encode(all)
}

func answer(ask func(string) any) error {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<20)
	out := json.NewEncoder(os.Stdout)
	for in.Scan() {
		var text string
		if err := json.Unmarshal(in.Bytes(), &text); err != nil {
			return err
		}
		if err := out.Encode(ask(text)); err != nil {
			return err
		}
	}
	return in.Err()
}

func gitAddress(text string) any {
	if _, err := gitutil.ParseURL(text); err != nil {
		if _, err := gitutil.ParseURL("https://" + text); err != nil || strings.Contains(text, "://") {
			return nil
		}
	}
	def, err := llb.Git(text, "", llb.KnownSSHHosts("known")).Marshal(context.Background(), llb.LinuxAmd64)
	if err != nil {
		return nil
	}
	var op pb.Op
	if err := proto.Unmarshal(def.Def[0], &op); err != nil {
		return nil
	}
	source := op.GetSource()
	return map[string]string{"id": source.Identifier, "remote": source.Attrs[pb.AttrFullRemoteURL]}
}
