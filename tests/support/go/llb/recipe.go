package main

import (
	"encoding/json"
	"io"
	"os"

	"github.com/moby/buildkit/client/llb"
	digest "github.com/opencontainers/go-digest"
)

// A step of a recipe adds states to the list of those that later steps name by number; the last one is the result.
type step struct {
	Op       string   `json:"op"`
	Of       []int    `json:"of"`
	Text     string   `json:"text"`
	Arm      bool     `json:"arm"`
	Readonly bool     `json:"readonly"`
	Mounts   []mount  `json:"mounts"`
	Actions  []action `json:"actions"`
}

type mount struct {
	Target   string `json:"target"`
	Of       int    `json:"of"`
	Kind     string `json:"kind"`
	Selector string `json:"selector"`
}

type action struct {
	Op    string   `json:"op"`
	Path  string   `json:"path"`
	Dest  string   `json:"dest"`
	Owner string   `json:"owner"`
	Of    int      `json:"of"`
	Bound []action `json:"bound"`
}

func buildAll() error {
	in := json.NewDecoder(os.Stdin)
	out := json.NewEncoder(os.Stdout)
	for {
		var steps []step
		if err := in.Decode(&steps); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		states := []llb.State{}
		for _, s := range steps {
			states = append(states, s.states(states)...)
		}
		def, err := marshal(graph{state: func(string) llb.State { return states[len(states)-1] }}, "")
		if err != nil {
			return err
		}
		digests := []string{}
		for _, op := range def.Def {
			digests = append(digests, digest.FromBytes(op).String())
		}
		if err := out.Encode(digests); err != nil {
			return err
		}
	}
}

func (s step) states(states []llb.State) []llb.State {
	var opts []llb.ConstraintsOpt
	if s.Arm {
		opts = append(opts, llb.LinuxArm64)
	}
	of := make([]llb.State, len(s.Of))
	for i, number := range s.Of {
		of[i] = states[number]
	}
	switch s.Op {
	case "scratch":
		return []llb.State{llb.Scratch()}
	case "image":
		var imageOpts []llb.ImageOption
		for _, opt := range opts {
			imageOpts = append(imageOpts, opt)
		}
		return []llb.State{llb.Image(s.Text, imageOpts...)}
	case "local":
		return []llb.State{llb.Local(s.Text)}
	case "env":
		return []llb.State{of[0].AddEnv(s.Text, s.Text)}
	case "dir":
		return []llb.State{of[0].Dir(s.Text)}
	case "merge":
		return []llb.State{llb.Merge(of, opts...)}
	case "diff":
		return []llb.State{llb.Diff(of[0], of[1], opts...)}
	case "file":
		return []llb.State{of[0].File(chain(s.Actions, states), opts...)}
	}
	runOpts := []llb.RunOption{llb.Args([]string{s.Text})}
	for _, opt := range opts {
		runOpts = append(runOpts, opt)
	}
	if s.Readonly {
		runOpts = append(runOpts, llb.ReadonlyRootFS())
	}
	exec := of[0].Run(runOpts...)
	made := []llb.State{exec.Root()}
	for _, m := range s.Mounts {
		mountOpts := []llb.MountOption{llb.SourcePath(m.Selector)}
		source := states[m.Of]
		switch m.Kind {
		case "readonly":
			mountOpts = append(mountOpts, llb.Readonly)
		case "no_output":
			mountOpts = append(mountOpts, llb.ForceNoOutput)
		case "cache":
			mountOpts = append(mountOpts, llb.AsPersistentCacheDir("id", llb.CacheMountShared))
		case "tmpfs":
			mountOpts, source = []llb.MountOption{llb.Tmpfs()}, llb.Scratch()
		}
		result := exec.AddMount(m.Target, source, mountOpts...)
		if m.Kind == "bind" || m.Kind == "readonly" {
			made = append(made, result)
		}
	}
	return made
}

func chain(actions []action, states []llb.State) *llb.FileAction {
	var all *llb.FileAction
	for _, a := range actions {
		if all == nil {
			// Only a chain has methods: a first action that does nothing is in all recipes.
			all = llb.Mkdir("/", 0o755, llb.WithParents(true))
		}
		switch a.Op {
		case "mkdir":
			all = all.Mkdir(a.Path, 0o755, llb.WithUser(a.Owner))
		case "mkfile":
			all = all.Mkfile(a.Path, 0o644, []byte(a.Dest))
		case "rm":
			all = all.Rm(a.Path)
		case "symlink":
			all = all.Symlink(a.Dest, "/"+a.Path)
		default:
			var source llb.CopyInput = states[a.Of]
			if a.Bound != nil {
				source = chain(a.Bound, states).WithState(states[a.Of])
			}
			all = all.Copy(source, a.Path, a.Dest, llb.WithUser(a.Owner))
		}
	}
	return all
}
