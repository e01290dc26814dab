package main

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// One graph; opts are those of its Marshal, linux/amd64 when there are none.
type graph struct {
	state func(base string) llb.State
	opts  []llb.ConstraintsOpt
}

const (
	someDigest  = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	otherDigest = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
	imageConfig = `{"architecture":"arm64","os":"linux","variant":"v8","config":` +
		`{"Env":["PATH=/usr/bin:/bin","A=1","EMPTY=","A=2"],"WorkingDir":"/srv"}}`
)

var created = time.Date(2024, 2, 29, 12, 30, 15, 123456000, time.UTC)

type fixedResolver struct{}

func (fixedResolver) ResolveImageConfig(
	_ context.Context, ref string, _ sourceresolver.Opt,
) (string, digest.Digest, []byte, error) {
	return ref, someDigest, []byte(imageConfig), nil
}

func text(s string) *string { return &s }

var graphs = map[string]graph{
	// sources
	"scratch": {state: func(string) llb.State { return llb.Scratch() }},
	"image":   {state: func(base string) llb.State { return llb.Image(base) }},
	"image-short-name": {state: func(string) llb.State {
		return llb.Image("alpine")
	}},
	"image-tag-and-digest": {state: func(string) llb.State {
		return llb.Image("ghcr.io/a/b:1@" + someDigest)
	}},
	"image-platform": {state: func(base string) llb.State {
		return llb.Image(base, llb.LinuxArmhf).Run(llb.Shlex("uname -m")).Root()
	}},
	"image-options": {state: func(base string) llb.State {
		return llb.Image(base, llb.ResolveModeForcePull, llb.WithImageChecksum(someDigest), llb.WithLayerLimit(2),
			llb.MarkImageInternal)
	}},
	"image-prefer-local": {state: func(base string) llb.State {
		return llb.Image(base, llb.ResolveModePreferLocal, llb.WithLayerLimit(0))
	}},
	"image-config": {state: func(base string) llb.State {
		st, err := llb.Image(base).WithImageConfig([]byte(imageConfig))
		if err != nil {
			panic(err)
		}
		return st.Run(llb.Shlex("env")).Root()
	}},
	"image-resolved": {state: func(base string) llb.State {
		return llb.Image(base, llb.WithMetaResolver(fixedResolver{}), llb.LinuxArm64).Run(llb.Shlex("env")).Root()
	}},
	"image-resolved-digest": {state: func(base string) llb.State {
		return llb.Image(base, llb.WithMetaResolver(fixedResolver{}), llb.ResolveDigest(true), llb.LinuxArm64).
			Run(llb.Shlex("env")).Root()
	}},
	"image-resolved-digest-given": {state: func(string) llb.State {
		return llb.Image("alpine@"+otherDigest, llb.WithMetaResolver(fixedResolver{}), llb.ResolveDigest(true)).
			Run(llb.Shlex("env")).Root()
	}},
	"oci-layout": {state: func(string) llb.State {
		return llb.OCILayout("app@"+someDigest, llb.OCIStore("session", "store"), llb.OCILayerLimit(3))
	}},
	"oci-layout-plain": {state: func(string) llb.State { return llb.OCILayout("app@"+someDigest, llb.LinuxArm64) }},
	"local":            {state: func(string) llb.State { return llb.Local("context") }},
	"local-own-id": {state: func(string) llb.State {
		return llb.Local("context", llb.LocalUniqueID("mine"))
	}},
	"local-options": {state: func(string) llb.State {
		return llb.Local("context", llb.IncludePatterns([]string{"*.go", "<a&b>", "\"q\"\\\n\t\x01\u2028é\U0001F600\x7f"}),
			llb.ExcludePatterns([]string{"node_modules", "!keep"}), llb.FollowPaths([]string{"a/b"}),
			llb.SharedKeyHint("hint"), llb.SessionID("session"), llb.Differ(llb.DiffNone, true))
	}},
	"local-differ": {state: func(string) llb.State {
		return llb.Local("context", llb.Differ(llb.DiffMetadata, false))
	}},
	"local-metadata-only": {state: func(string) llb.State {
		return llb.Local("context", llb.MetadataOnlyTransfer([]string{"go.mod"}))
	}},
	"local-metadata-only-all": {state: func(string) llb.State {
		return llb.Local("context", llb.MetadataOnlyTransfer(nil))
	}},
	"git": {state: func(string) llb.State { return llb.Git("https://github.com/moby/buildkit.git", "v0.11.6") }},
	"git-no-scheme": {state: func(string) llb.State {
		return llb.Git("github.com/moby/buildkit.git", "")
	}},
	"git-fragment": {state: func(string) llb.State {
		return llb.Git("https://user:p%40ss@example.com:8443/a//b/../repo.git", "main:/sub//dir/")
	}},
	"git-options": {state: func(string) llb.State {
		return llb.Git("http://example.com/repo.git", "old:there", llb.GitRef("refs/heads/x"), llb.GitSubDir("sub"),
			llb.KeepGitDir(), llb.GitChecksum("1111111111111111111111111111111111111111"),
			llb.AuthTokenSecret("token"), llb.AuthHeaderSecret("header"), llb.GitSkipSubmodules(),
			llb.GitMTimeCommit(), llb.GitFetchByCommit())
	}},
	"git-no-secrets": {state: func(string) llb.State {
		return llb.Git("https://example.com/repo.git", "", llb.AuthTokenSecret(""), llb.AuthHeaderSecret(""))
	}},
	"git-one-secret": {state: func(string) llb.State {
		return llb.Git("https://example.com/repo.git", "", llb.AuthTokenSecret(""))
	}},
	"git-ssh": {state: func(string) llb.State {
		return llb.Git("ssh://git@example.com:2222/repo.git", "", llb.KnownSSHHosts("example.com ssh-ed25519 AAAA"),
			llb.MountSSHSock("agent"))
	}},
	"git-scp": {state: func(string) llb.State {
		return llb.Git("git@github.com:moby/buildkit.git", "main", llb.KnownSSHHosts("a b c\n"), llb.KnownSSHHosts("d e f"))
	}},
	"http": {state: func(string) llb.State { return llb.HTTP("https://example.com/file.tar.gz") }},
	"http-options": {state: func(string) llb.State {
		return llb.HTTP("http://example.com/f", llb.Checksum(someDigest), llb.Filename("name"), llb.Chmod(0o755),
			llb.Chown(1000, 0), llb.AuthHeaderSecret("header"))
	}},
	"http-group": {state: func(string) llb.State { return llb.HTTP("http://example.com/f", llb.Chown(0, 7)) }},

	// run
	"run": {state: func(base string) llb.State {
		return llb.Image(base).Run(llb.Shlex(`sh -c 'echo "a b" > /out' plain\ word "x\y" # end`)).Root()
	}},
	"run-scratch": {state: func(string) llb.State { return llb.Scratch().Run(llb.Args([]string{"/init", ""})).Root() }},
	"run-values": {state: func(base string) llb.State {
		return llb.Image(base).AddEnv("A", "1").AddEnv("B", "2").AddEnv("A", "3").Dir("/srv").Dir("app/../lib").
			User("nobody:daemon").Hostname("here").Network(pb.NetMode_HOST).Security(pb.SecurityMode_INSECURE).
			AddExtraHost("one", net.ParseIP("10.0.0.1")).AddExtraHost("two", net.ParseIP("2001:DB8:0:0:1:0:0:1")).
			AddUlimit(llb.UlimitNofile, 1024, 2048).WithCgroupParent("parent").
			Run(llb.Shlex("true")).Run(llb.Shlex("again")).Root()
	}},
	"run-options": {state: func(base string) llb.State {
		return llb.Image(base).AddEnv("A", "1").User("root").Run(llb.Shlex("true"), llb.AddEnv("B", "2"),
			llb.AddEnv("A", "9"), llb.Dir("work"), llb.User("7"), llb.Hostname("there"), llb.Network(pb.NetMode_NONE),
			llb.Security(pb.SecurityMode_SANDBOX), llb.AddExtraHost("mapped", net.ParseIP("::ffff:10.1.2.3")),
			llb.AddUlimit(llb.UlimitCore, 0, -1), llb.WithCgroupParent("other"), llb.ValidExitCodes(0, 3, 255),
			llb.ReadonlyRootFS(), llb.AddMount("/out", llb.Scratch()),
			llb.WithProxy(llb.ProxyEnv{HTTPProxy: "http://p", HTTPSProxy: "https://p", FTPProxy: "f", NoProxy: "n", AllProxy: "a"}),
			llb.AddCDIDevice(llb.CDIDeviceName("vendor.com/dev=one")),
			llb.AddCDIDevice(llb.CDIDeviceName("vendor.com/dev=two"), llb.CDIDeviceOptional)).GetMount("/out")
	}},
	"run-empty-proxy": {state: func(base string) llb.State {
		return llb.Image(base).Run(llb.Shlex("true"), llb.WithProxy(llb.ProxyEnv{})).Root()
	}},
	"run-values-stay-inside": {state: func(base string) llb.State {
		return llb.Image(base).Run(llb.Shlex("one"), llb.AddEnv("A", "1"), llb.Dir("/x")).Run(llb.Shlex("two")).Root()
	}},
	"mounts": {state: func(base string) llb.State {
		tools := llb.Image("tools").Dir("/opt")
		exec := llb.Image(base).Run(llb.Shlex("make"),
			llb.AddMount("/z", tools, llb.SourcePath("/bin"), llb.Readonly),
			llb.AddMount("/b", llb.Scratch()),
			llb.AddMount("/a", llb.Image(base)),
			llb.AddMount("/thrown", llb.Local("context"), llb.ForceNoOutput, llb.ContentCache(llb.MountContentCacheOff)),
			llb.AddMount("/t", llb.Scratch(), llb.Tmpfs()),
			llb.AddMount("/u", llb.Scratch(), llb.Tmpfs(llb.TmpfsSize(1<<20))),
			llb.AddMount("/é", tools, llb.ContentCache(llb.MountContentCacheOn)))
		return llb.Scratch().File(llb.Copy(exec.GetMount("/b"), "/", "/b").Copy(exec.GetMount("/a"), "/", "/a").
			Copy(exec.Root(), "/", "/root").Copy(exec.GetMount("/z"), "/", "/z").Copy(exec.GetMount("/é"), "/", "/e"))
	}},
	"mount-values": {state: func(base string) llb.State {
		source := llb.Scratch().Dir("/from/source").AddEnv("S", "1")
		exec := llb.Image(base).Dir("/base").Run(llb.Shlex("make"))
		return exec.AddMount("/out", source).Run(llb.Shlex("next")).Root()
	}},
	"mounts-before-root": {state: func(base string) llb.State {
		// A target that sorts before "/" takes output 0.
		exec := llb.Image(base).Run(llb.Shlex("make"), llb.AddMount("!odd", llb.Scratch()))
		return exec.Root()
	}},
	"readonly-root": {state: func(base string) llb.State {
		return llb.Image(base).Run(llb.Shlex("make"), llb.ReadonlyRootFS()).Root()
	}},
	"caches": {state: func(base string) llb.State {
		return llb.Image(base).Run(llb.Shlex("go build"),
			llb.AddMount("/c1", llb.Scratch(), llb.AsPersistentCacheDir("one", llb.CacheMountShared)),
			llb.AddMount("/c2", llb.Scratch(), llb.AsPersistentCacheDir("two", llb.CacheMountPrivate)),
			llb.AddMount("/c3", llb.Image("seed"), llb.AsPersistentCacheDir("three", llb.CacheMountLocked),
				llb.SourcePath("/seed"), llb.Readonly)).Root()
	}},
	"secrets": {state: func(base string) llb.State {
		return llb.Image(base).Run(llb.Shlex("true"),
			llb.AddSecretWithDest("npm", text("/run/secrets/npm"), llb.SecretFileOpt(1, 2, 0o440), llb.SecretOptional),
			llb.AddSecretWithDest("token", nil, llb.SecretAsEnvName("TOKEN")),
			llb.AddSecretWithDest("both", text("/both"), llb.SecretAsEnvName("BOTH"), llb.SecretOptional)).Root()
	}},
	"secret-file-only": {state: func(base string) llb.State {
		return llb.Image(base).Run(llb.Shlex("true"), llb.AddSecret("/s", llb.SecretID("id"))).Root()
	}},
	"ssh": {state: func(base string) llb.State {
		return llb.Image(base).AddEnv("X", "1").Run(llb.Shlex("true"), llb.AddSSHSocket(),
			llb.AddSSHSocket(llb.SSHID("other"), llb.SSHSocketOpt("/agent", 3, 4, 0o666), llb.SSHOptional),
			llb.AddSSHSocket(llb.SSHID("third"))).Root()
	}},
	"ssh-sock-set": {state: func(base string) llb.State {
		return llb.Image(base).AddEnv("SSH_AUTH_SOCK", "/mine").AddEnv("Z", "1").
			Run(llb.Shlex("true"), llb.AddSSHSocket(llb.SSHSocketTarget("/a"))).Root()
	}},
	"resources": {state: func(base string) llb.State {
		return llb.Image(base).Run(llb.Shlex("true"), llb.WithLinuxResources(llb.LinuxResources{
			Memory: 1 << 30, MemorySwap: -1, CPUShares: 512, CPUPeriod: 100000, CPUQuota: 50000,
			CpusetCpus: "0-1", CpusetMems: "0",
		})).Root()
	}},

	// file
	"mkdir": {state: func(base string) llb.State { return llb.Image(base).File(llb.Mkdir("/x", 0o755)) }},
	"file-chain": {state: func(base string) llb.State {
		return llb.Scratch().Dir("/work").File(llb.Mkdir("a/b", 0o700, llb.WithParents(true), llb.WithUIDGID(10, 20)).
			Mkfile("a/b/f", 0o600, []byte("data"), llb.WithUser("nobody:staff")).
			Mkfile("/empty", 0o644, nil, llb.WithUser("7:root")).
			Symlink("../target", "/link", llb.WithCreatedTime(created)).
			Rm("gone*", llb.WithAllowWildcard(true), llb.WithAllowNotFound(true)).
			Rm("a/").
			Copy(llb.Image(base).Dir("/src"), "rel", "dst/"))
	}},
	"file-owner-names": {state: func(base string) llb.State {
		return llb.Image(base).File(llb.Mkdir("/a", 0o755, llb.WithUser("www:")).
			Mkdir("/b", 0o755, llb.WithUser(":staff")).Mkdir("/c", 0o755, llb.WithUser("2147483648:2147483647")).
			Copy(llb.Image("other"), "/f", "/g", llb.WithUser("app:app")))
	}},
	"file-times": {state: func(base string) llb.State {
		early := time.Date(1969, 12, 31, 23, 59, 59, 500000000, time.UTC)
		return llb.Scratch().File(llb.Mkdir("/d", 0o755, llb.WithCreatedTime(created)).
			Mkfile("/f", 0o644, []byte("x"), llb.WithCreatedTime(time.Unix(0, 0))).
			Copy(llb.Image(base), "/a", "/b", llb.WithCreatedTime(early)))
	}},
	"copy-options": {state: func(base string) llb.State {
		return llb.Scratch().File(llb.Copy(llb.Local("context"), "/src/*", "/dst/.", &llb.CopyInfo{
			Mode:           &llb.ChmodOpt{Mode: 0o640},
			FollowSymlinks: true, CopyDirContentsOnly: true, IncludePatterns: []string{"a", "b"},
			ExcludePatterns: []string{"c"}, RequiredPaths: []string{"must"}, AttemptUnpack: true, CreateDestPath: true,
			AllowWildcard: true, AllowEmptyWildcard: true, AlwaysReplaceExistingDestPaths: true,
		}))
	}},
	"copy-mode-text": {state: func(base string) llb.State {
		return llb.Scratch().File(llb.Copy(llb.Image(base), ".", ".", llb.ChmodOpt{ModeStr: "u=rwX,go=rX"}).
			Copy(llb.Image(base), "/a", "/b", llb.ChmodOpt{Mode: 0}))
	}},
	"copy-paths": {state: func(base string) llb.State {
		source := llb.Image(base).Dir("/from")
		return llb.Scratch().Dir("/to").File(llb.Copy(source, "a/../b/", "c/").Copy(source, "//x//y", "/.").
			Copy(source, "", "").Copy(source, "../../up", "../../../up/.").Copy(source, "/", "/").Copy(source, ".", "./"))
	}},
	"copy-scratch": {state: func(base string) llb.State {
		return llb.Image(base).File(llb.Copy(llb.Scratch(), "/", "/x"))
	}},
	"copy-same-source": {state: func(base string) llb.State {
		image := llb.Image(base)
		return image.File(llb.Copy(image, "/a", "/b").Copy(llb.Image(base), "/c", "/d").Copy(llb.Image("other"), "/e", "/f"))
	}},
	"copy-of-files": {state: func(base string) llb.State {
		made := llb.Mkdir("made", 0o755).Mkfile("made/f", 0o644, []byte("x")).WithState(llb.Image(base).Dir("/ced"))
		return llb.Image("other").Dir("/abc").File(llb.Mkdir("first", 0o755).Copy(made, "made/f", "baz").
			Copy(made, "made", "again").Copy(llb.Mkfile("/n", 0o600, nil).WithState(llb.Scratch()), "/n", "/n"))
	}},
	"file-twice": {state: func(base string) llb.State {
		return llb.Image(base).File(llb.Mkdir("/a", 0o755)).File(llb.Mkdir("/b", 0o755))
	}},

	// merge, diff
	"merge": {state: func(base string) llb.State {
		image := llb.Image(base).AddEnv("A", "1")
		one := image.Run(llb.Shlex("touch /one"), llb.LinuxArm64)
		two := image.File(llb.Mkfile("/two", 0o644, []byte("2")))
		return llb.Merge([]llb.State{image, llb.Scratch(), llb.Diff(image, one.Root()), llb.Diff(image, two)}).
			Run(llb.Shlex("ls")).Root()
	}},
	"merge-same": {state: func(base string) llb.State {
		return llb.Merge([]llb.State{llb.Image(base), llb.Image(base)}, llb.WithCustomName("both"))
	}},
	"merge-one":  {state: func(base string) llb.State { return llb.Merge([]llb.State{llb.Scratch(), llb.Image(base)}) }},
	"merge-none": {state: func(string) llb.State { return llb.Merge([]llb.State{llb.Scratch()}) }},
	"diff-to-scratch": {state: func(base string) llb.State {
		return llb.Diff(llb.Image(base), llb.Scratch())
	}},
	"diff-from-scratch": {state: func(base string) llb.State { return llb.Diff(llb.Scratch(), llb.Image(base)) }},

	// constraints
	"names": {state: func(base string) llb.State {
		return llb.Image(base, llb.WithCustomName("base"), llb.ProgressGroup("g", "group", false)).
			Run(llb.Shlex("one"), llb.WithDescription(map[string]string{"k": "v", "a": "b"}), llb.WithCustomName("step"),
				llb.IgnoreCache, llb.ProgressGroup("g", "group", true), llb.WithExportCache()).
			File(llb.Mkdir("/x", 0o755), llb.WithoutExportCache(), llb.Require("label==x", "other"))
	}},
	"same-op-two-names": {state: func(base string) llb.State {
		image := llb.Image(base)
		one := image.Run(llb.Shlex("same"), llb.WithDescription(map[string]string{"one": "1", "n": "1"}), llb.WithExportCache())
		two := image.Run(llb.Shlex("same"), llb.WithDescription(map[string]string{"two": "2", "n": "2"}), llb.IgnoreCache)
		return llb.Merge([]llb.State{one.Root(), two.Root()})
	}},
	"filters": {
		state: func(base string) llb.State {
			return llb.Image(base, llb.Require("own")).Run(llb.Shlex("true")).Root()
		},
		opts: []llb.ConstraintsOpt{llb.Require("all"), llb.LinuxArmel},
	},
	"platform-state": {state: func(base string) llb.State {
		return llb.Image(base).Platform(ocispecs.Platform{OS: "linux", Architecture: "aarch64", Variant: "v8"}).
			Run(llb.Shlex("a")).Run(llb.Shlex("b"), llb.LinuxS390x).Run(llb.Shlex("c")).Root()
	}},
	"platform-windows": {
		state: func(base string) llb.State { return llb.Image(base).Run(llb.Shlex("cmd")).Root() },
		opts: []llb.ConstraintsOpt{llb.Platform(ocispecs.Platform{
			OS: "windows", Architecture: "amd64", OSVersion: "10.0.17763.1", OSFeatures: []string{"win32k", "a"},
		})},
	},
	"platform-mount": {state: func(base string) llb.State {
		exec := llb.Image(base).Run(llb.Shlex("make"), llb.LinuxArm64, llb.AddMount("/o", llb.Scratch()))
		return exec.GetMount("/o").Run(llb.Shlex("next")).Root()
	}},

	// whole builds
	"diamond": {state: func(base string) llb.State {
		image := llb.Image(base)
		left := image.Run(llb.Shlex("left")).Root()
		right := image.Run(llb.Shlex("right")).Root()
		return llb.Scratch().File(llb.Copy(left, "/l", "/l")).File(llb.Copy(right, "/r", "/r").Copy(left, "/l2", "/l2"))
	}},
	"multi-stage": {state: func(base string) llb.State {
		source := llb.Local("context", llb.SharedKeyHint("app"), llb.ExcludePatterns([]string{".git"}))
		build := llb.Image(base).AddEnv("CGO_ENABLED", "0").Dir("/src").Run(llb.Args([]string{"/bin/sh", "-c", "cat *.txt > /out/all"}),
			llb.AddMount("/src", source, llb.Readonly), llb.AddMount("/out", llb.Scratch()),
			llb.AddMount("/root/.cache", llb.Scratch(), llb.AsPersistentCacheDir("build", llb.CacheMountLocked)),
			llb.WithCustomName("build"))
		return llb.Scratch().File(llb.Copy(build.GetMount("/out"), "/all", "/app/all", &llb.CopyInfo{CreateDestPath: true}).
			Mkfile("/app/VERSION", 0o644, []byte("1\n")).Symlink("all", "/app/link"))
	}},
	"long-chain": {state: func(base string) llb.State {
		state := llb.Image(base)
		for i := range 20 {
			state = state.Run(llb.Args([]string{"step", fmt.Sprint(i)})).Root()
		}
		return state
	}},

	// really built by the tests
	"real": {state: func(base string) llb.State {
		image := llb.Image(base).AddEnv("PATH", "/bin:/usr/bin")
		made := image.Run(llb.Args([]string{"/bin/sh", "-c", "mkdir /made && echo $WHAT > /made/what && hostname > /made/host"}),
			llb.AddEnv("WHAT", "from go and python"), llb.Hostname("builder"))
		mounted := image.Dir("/in").Run(llb.Args([]string{"/bin/sh", "-c", "cp -r . /out/copy && ls /tmp > /out/tmp && touch /cache/x"}),
			llb.AddMount("/in", llb.Local("context", llb.ExcludePatterns([]string{"*.log"})), llb.Readonly),
			llb.AddMount("/out", llb.Scratch()), llb.AddMount("/tmp", llb.Scratch(), llb.Tmpfs()),
			llb.AddMount("/cache", llb.Scratch(), llb.AsPersistentCacheDir("llb-real", llb.CacheMountShared)))
		files := llb.Scratch().File(llb.Mkdir("/dir", 0o750, llb.WithUIDGID(3, 4), llb.WithCreatedTime(created)).
			Mkfile("/dir/file", 0o604, []byte("text"), llb.WithCreatedTime(created)).
			Symlink("dir/file", "/link", llb.WithCreatedTime(created)).
			Copy(made.Root(), "/made", "/from-run", llb.WithCreatedTime(created)).
			Copy(mounted.GetMount("/out"), "/*", "/mounted/",
				&llb.CopyInfo{AllowWildcard: true, CreateDestPath: true, CreatedTime: &created}).
			Rm("/from-run/host"))
		patch := llb.Diff(image, image.File(llb.Mkfile("/patched", 0o644, []byte("p"), llb.WithCreatedTime(created))))
		return llb.Merge([]llb.State{files, patch})
	}},
}
