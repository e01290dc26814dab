// Answers questions about patterns with the matcher that the daemon uses.
//
// Reads one JSON object per line from stdin and answers each with one line on stdout. Byte strings are base64.
// {"patterns": [...], "paths": [...]} asks for the verdicts on each path: alone, and as a walk would reach it.
// {"ignoreFile": "..."} asks for the patterns of an ignore file.
package main

import (
	"bytes"
	"encoding/json"
	"log"
	"os"
	"strings"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

type question struct {
	Patterns   [][]byte `json:"patterns"`
	Paths      [][]byte `json:"paths"`
	IgnoreFile []byte   `json:"ignoreFile"`
}

type verdict struct {
	Alone      bool   `json:"alone"`
	AloneError string `json:"aloneError,omitempty"`
	Walk       bool   `json:"walk"`
	WalkError  string `json:"walkError,omitempty"`
}

type answer struct {
	Error    string    `json:"error,omitempty"`
	Verdicts []verdict `json:"verdicts,omitempty"`
	Patterns [][]byte  `json:"patterns,omitempty"`
}

func main() {
	in := json.NewDecoder(os.Stdin)
	out := json.NewEncoder(os.Stdout)
	for in.More() {
		var q question
		if err := in.Decode(&q); err != nil {
			log.Fatal(err)
		}
		if err := out.Encode(reply(q)); err != nil {
			log.Fatal(err)
		}
	}
}

func reply(q question) (a answer) {
	if q.IgnoreFile != nil {
		lines, err := ignorefile.ReadAll(bytes.NewReader(q.IgnoreFile))
		if err != nil {
			return answer{Error: err.Error()}
		}
		for _, line := range lines {
			a.Patterns = append(a.Patterns, []byte(line))
		}
		return a
	}
	patterns := make([]string, len(q.Patterns))
	for i, p := range q.Patterns {
		patterns[i] = string(p)
	}
	matcher, err := patternmatcher.New(patterns)
	if err != nil {
		return answer{Error: err.Error()}
	}
	for _, path := range q.Paths {
		a.Verdicts = append(a.Verdicts, judge(matcher, string(path)))
	}
	return a
}

func judge(matcher *patternmatcher.PatternMatcher, path string) (v verdict) {
	alone, err := matcher.MatchesOrParentMatches(path)
	if err != nil {
		v.AloneError = err.Error()
	} else {
		v.Alone = alone
	}
	var info patternmatcher.MatchInfo
	names := strings.Split(path, "/")
	for i := range names {
		var matched bool
		matched, info, err = matcher.MatchesUsingParentResults(strings.Join(names[:i+1], "/"), info)
		if err != nil {
			v.WalkError = err.Error()
			return v
		}
		v.Walk = matched
	}
	return v
}
