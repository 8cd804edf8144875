package cmd

import (
	"bytes"
	"io"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// TestGeneratedManual keeps docs/man as the command tree is: a page of section 8 for each command and each help topic.
// Section 1 has the keyctl of keyutils.
func TestGeneratedManual(t *testing.T) {
	compareFolder(t, filepath.Join("..", "docs", "man"), manualPages(t))
}

// manualPages writes the pages by file name.
func manualPages(t *testing.T) map[string]string {
	t.Helper()
	pages := map[string]string{}
	eachCommand(bareTree(io.Discard), func(c *cobra.Command) {
		name := manualName(c)
		var page bytes.Buffer
		if err := doc.GenMan(c, &doc.GenManHeader{
			Title: name, Section: "8", Source: "keyctl", Manual: "System Administration", Date: &time.Time{},
		}, &page); err != nil {
			t.Fatal(err)
		}
		// A date would change the pages without any change in them.
		undated := strings.Replace(page.String(), `"Jan 0001"`, `""`, 1)
		pages[name+".8"] = typeset(arrange(c, undated))
	})
	return pages
}

func manualName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// arrange keeps the sections that say something: the options of all commands stand on the first page only, help topics
// are no commands and have none, and the first page names the topics.
func arrange(c *cobra.Command, page string) string {
	const section = "\n.SH "
	var kept []string
	for _, text := range strings.Split(page, section) {
		title, _, _ := strings.Cut(text, "\n")
		inherited := title == "OPTIONS INHERITED FROM PARENT COMMANDS"
		switch {
		case c.IsAdditionalHelpTopicCommand() && (inherited || title == "SYNOPSIS" || title == "OPTIONS"):
			continue
		case inherited:
			text = "GLOBAL OPTIONS\nThe options of \\fBkeyctl(8)\\fP can be given here too.\n\n"
		case title == "SEE ALSO" && !c.HasParent():
			text = strings.TrimSpace(text)
			for _, sub := range c.Commands() {
				if sub.IsAdditionalHelpTopicCommand() {
					text += ", \\fB" + manualName(sub) + "(8)\\fP"
				}
			}
		}
		kept = append(kept, text)
	}
	return strings.TrimSpace(strings.Join(kept, section)) + "\n"
}

var (
	optionEntry = regexp.MustCompile(`(?:\.PP\n)?(\\fB-.*)\n\t(.*)\n`)
	optionValue = regexp.MustCompile(`(\\fB--[a-z-]+\\fP)(?:(\[=false\])|=0|="([^"]*)")\n`)
	literally   = strings.NewReplacer("'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`)
)

// typeset makes options entries of a list, worded as in keyctl --help, and writes dashes, and in examples quotes, so that
// every formatter leaves them as they are typed.
func typeset(page string) string {
	page = optionValue.ReplaceAllStringFunc(page, func(entry string) string {
		m := optionValue.FindStringSubmatch(entry)
		switch {
		case m[2] != "":
			return m[1] + "\n"
		case m[3] != "":
			return m[1] + ` \fIvalue\fP (default: ` + m[3] + ")\n"
		}
		return m[1] + ` \fIvalue\fP` + "\n"
	})
	page = optionEntry.ReplaceAllString(page, ".TP\n$1\n$2\n")
	lines := strings.Split(page, "\n")
	example := false
	for i, line := range lines {
		if strings.HasPrefix(line, ".") {
			example = line == ".EX"
			continue
		}
		if example {
			line = literally.Replace(line)
		}
		lines[i] = strings.ReplaceAll(line, "-", `\-`)
	}
	return strings.Join(lines, "\n")
}
