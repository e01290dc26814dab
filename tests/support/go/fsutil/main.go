// One side of a file transfer, as the daemon and its own client play it, over stdin and stdout.
//
//	fsutil send DIRECTORY OPTIONS    OPTIONS is JSON: {"include": [...], "exclude": [...], "follow": [...]}, base64
//	fsutil receive DIRECTORY         into an empty directory, as the daemon does for a new context
//
// Messages have gRPC's five-byte prefix in both directions. Errors go to stderr, with exit code 1.
package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/tonistiigi/fsutil"
	"github.com/tonistiigi/fsutil/types"
)

type stream struct {
	mu  sync.Mutex
	in  *bufio.Reader
	out io.Writer
}

func (s *stream) Context() context.Context { return context.Background() }

func (s *stream) SendMsg(m any) error {
	data, err := m.(*types.Packet).MarshalVT()
	if err != nil {
		return err
	}
	frame := make([]byte, 5, 5+len(data))
	binary.BigEndian.PutUint32(frame[1:], uint32(len(data)))
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err = s.out.Write(append(frame, data...))
	return err
}

func (s *stream) RecvMsg(m any) error {
	var prefix [5]byte
	if _, err := io.ReadFull(s.in, prefix[:]); err != nil {
		return err
	}
	data := make([]byte, binary.BigEndian.Uint32(prefix[1:]))
	if _, err := io.ReadFull(s.in, data); err != nil {
		return err
	}
	packet := m.(*types.Packet)
	packet.ResetVT()
	return packet.UnmarshalVT(data)
}

type options struct {
	Include, Exclude, Follow [][]byte
}

func texts(values [][]byte) (out []string) {
	for _, value := range values {
		out = append(out, string(value))
	}
	return out
}

func send(s *stream, directory, given string) error {
	var o options
	if err := json.Unmarshal([]byte(given), &o); err != nil {
		return err
	}
	fs, err := fsutil.NewFS(directory)
	if err != nil {
		return err
	}
	fs, err = fsutil.NewFilterFS(fs, &fsutil.FilterOpt{
		Map: func(_ string, st *types.Stat) fsutil.MapResult {
			st.Uid, st.Gid = 0, 0
			return fsutil.MapResultKeep
		},
	})
	if err != nil {
		return err
	}
	fs, err = fsutil.NewFilterFS(fs, &fsutil.FilterOpt{
		IncludePatterns: texts(o.Include),
		ExcludePatterns: texts(o.Exclude),
		FollowPaths:     texts(o.Follow),
	})
	if err != nil {
		return err
	}
	return fsutil.Send(s.Context(), s, fs, nil)
}

func run(args []string) error {
	s := &stream{in: bufio.NewReaderSize(os.Stdin, 1<<20), out: os.Stdout}
	switch {
	case len(args) == 3 && args[0] == "send":
		return send(s, args[1], args[2])
	case len(args) == 2 && args[0] == "receive":
		return fsutil.Receive(s.Context(), s, args[1], fsutil.ReceiveOpt{})
	}
	return errors.New("usage: fsutil send DIRECTORY OPTIONS | fsutil receive DIRECTORY")
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
