package cmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"keyctl/internal/login"
	"keyctl/internal/term"
)

// clock: does it tell a time that can be, and none before what the store remembers?
func (e *examination) clock(ctx context.Context) []finding {
	now := e.a.now()
	const hint = "set this machine's clock: expiries, graces and authenticator codes follow it"
	if now.Year() < 2025 || now.Year() > 2200 {
		return []finding{found(resultError, "the clock says %s", now.Format(time.RFC3339)).hint(hint)}
	}
	if e.local != nil && e.unreadable() == nil {
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

// keyring: can it be used, and if not, does anything depend on it?
func (e *examination) keyring(ctx context.Context) []finding {
	profiles, err := e.a.profiles()
	if err != nil {
		return []finding{trouble(err)}
	}
	var findings []finding
	profiles.Warn = func(message string) { findings = append(findings, found(resultWarning, "%s", message)) }
	var kept []string
	kind := login.Credential
	if name, inKeyring := e.cfg.MasterKey.Keyring(); inKeyring {
		kept, kind = append(kept, fmt.Sprintf("the master key %q", name)), login.MasterKey
	}
	if name, inKeyring := e.cfg.Token.Keyring(); inKeyring {
		kept, kind = append(kept, fmt.Sprintf("the token %q", name)), login.Token
	}
	if n := len(profiles.List()); n > 0 {
		kept = append(kept, counted(n, "credential"))
	}
	f := available("the keyring answers", profiles.Ring.Look(ctx, kind))
	if f.Result == resultSkipped && len(kept) > 0 {
		f.Result = resultWarning
		f.Message += "; kept there: " + strings.Join(kept, ", ")
	}
	return append(findings, f)
}

// clipboard: is there one to reach? What is on it is not read.
func (e *examination) clipboard(context.Context) []finding {
	return []finding{available("what reaches the clipboard is there", term.CheckClipboard(e.a.sys.Getenv))}
}

// available makes a finding of what was found out about a part of the machine that keyctl can do without.
func available(well string, err error) finding {
	if err == nil {
		return found(resultOK, "%s", well)
	}
	f := trouble(err)
	f.Result = resultSkipped
	return f
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
