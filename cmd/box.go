package cmd

import (
	"bytes"
	"fmt"
	"strings"

	"keyctl/internal/credential"
	"keyctl/internal/term"
)

// boxed draws a credential for a person in front of a terminal. `--from` reads the box back.
func (i issued) boxed(s term.Surface) ([]byte, error) {
	title := fmt.Sprintf("%s, generation %d", i.cred.Name, i.pending.Generation)
	unnamed := i.cred
	unnamed.Name = "" // it is in the border
	text, err := issued{cred: unnamed}.render(credential.Text, "")
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	err = term.Box(&b, s, title, lines, "shown once: keep them in your secret store now")
	return b.Bytes(), err
}
