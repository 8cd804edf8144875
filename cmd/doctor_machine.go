package cmd

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// clock: does it tell a time that can be, and none before what the store remembers?
func (e *examination) clock(ctx context.Context) []finding {
	now := e.a.now()
	const hint = "set this machine's clock: expiries, graces and authenticator codes follow it"
	if now.Year() < 2025 || now.Year() > 2200 {
		return []finding{found(resultError, "the clock says %s", now.Format(time.RFC3339)).hint(hint)}
	}
	if e.unreadable() == nil {
		latest, err := e.local.LatestChange(ctx)
		switch {
		case err != nil:
			return []finding{undecided(err)}
		case latest.After(now.Add(time.Minute)):
			return []finding{found(resultWarning, "the clock says %s, and the newest change of the store is of %s", now.Format(time.RFC3339), latest.Format(time.RFC3339)).
				hint(hint + "; if it is right now, it was ahead then")}
		}
	}
	return []finding{found(resultOK, "%s", now.Format(time.RFC3339))}
}

// isThere makes a finding of what a part of the machine answered that keyctl can do without.
func isThere(name string, err error) []finding {
	if err != nil {
		f := trouble(err)
		f.Result, f.Message = resultSkipped, "there is none to be used: "+err.Error()
		return []finding{f}
	}
	return []finding{found(resultOK, "the %s answers", name)}
}

// path: does the name keyctl stand for this program? Debian's keyutils has another of that name.
func (e *examination) path(context.Context) []finding {
	self, err := os.Executable()
	if err != nil {
		return []finding{found(resultSkipped, "the system does not tell where this program is: %s", err)}
	}
	first, err := exec.LookPath("keyctl")
	if err != nil && !errors.Is(err, exec.ErrDot) {
		return []finding{found(resultOK, "there is no other keyctl in PATH; this one is %q", self)}
	}
	if sameFile(first, self) {
		return []finding{found(resultOK, "the first keyctl in PATH is this one, %q", first)}
	}
	whose := "another program"
	if isKeyutils(first) {
		whose = "the one of keyutils, for the kernel's keyrings"
	}
	return []finding{found(resultWarning, "the first keyctl in PATH is %s: %q; this one is %q", whose, first, self).
		hint("put this one's folder before %q in PATH (packages have /opt/keyctl/bin for that), or call it by its other name, apikeyctl", filepath.Dir(first))}
}

func sameFile(a, b string) bool {
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

// isKeyutils recognises the other keyctl by the library that it is linked with, without running it.
func isKeyutils(path string) bool {
	const largest = 1 << 20 // it has 60 kB, this one 15 MB and that name in it, too
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, largest+1))
	return err == nil && len(content) <= largest && bytes.Contains(content, []byte("libkeyutils.so"))
}
