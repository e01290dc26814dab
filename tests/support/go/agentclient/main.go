// Sends one request to the SSH agent of a build step and prints the answer's type, the number that follows it, and in
// hexadecimal digits the whole answer.
//
//	agentclient TYPE [CONTENT IN HEXADECIMAL DIGITS]
//
// The base image has no SSH client; this one is a single static file that a Dockerfile can COPY.
package main

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
)

func main() {
	kind, err := strconv.Atoi(os.Args[1])
	check(err)
	request := []byte{byte(kind)}
	if len(os.Args) > 2 {
		content, err := hex.DecodeString(os.Args[2])
		check(err)
		request = append(request, content...)
	}
	agent, err := net.Dial("unix", os.Getenv("SSH_AUTH_SOCK"))
	check(err)
	_, err = agent.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(request))), request...))
	check(err)
	head := make([]byte, 4)
	_, err = io.ReadFull(agent, head)
	check(err)
	body := make([]byte, binary.BigEndian.Uint32(head))
	_, err = io.ReadFull(agent, body)
	check(err)
	number := uint32(0)
	if len(body) >= 5 {
		number = binary.BigEndian.Uint32(body[1:5])
	}
	fmt.Printf("answer %d number %d\nbytes %x\n", body[0], number, body)
}

func check(err error) {
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
}
