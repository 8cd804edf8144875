package cmd

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"keyctl/internal/term"
)

// version and revision are set by the linker in releases; other builds say what the Go toolchain recorded.
var version, revision string

// buildInfo says which keyctl this is.
type buildInfo struct {
	Version  string `json:"version"`
	Revision string `json:"revision"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func newVersion(a *app) *cobra.Command {
	return &cobra.Command{
		Use:         "version",
		Short:       "Print the version",
		Long:        `Print the version of keyctl, the revision and toolchain it was built with, and its platform.`,
		Annotations: onlyReads(),
		Example:     `  keyctl version`,
		Args:        args(),
		RunE: func(*cobra.Command, []string) error {
			p, err := a.barePrinter()
			if err != nil {
				return err
			}
			return printOne(p, buildShape, thisBuild())
		},
	}
}

var buildShape = shape[buildInfo]{
	id:   func(b buildInfo) string { return b.Version },
	name: func(b buildInfo) string { return b.Version },
	details: []column[buildInfo]{
		{"keyctl", false, func(_ *printer, b buildInfo) term.Cell { return text(b.Version) }},
		{"revision", false, func(_ *printer, b buildInfo) term.Cell { return text(b.Revision) }},
		{"go", false, func(_ *printer, b buildInfo) term.Cell { return text(b.Go) }},
		{"platform", false, func(_ *printer, b buildInfo) term.Cell { return text(b.Platform) }},
	},
}

func thisBuild() buildInfo {
	b := buildInfo{Version: version, Revision: revision, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if b.Version == "" {
		b.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && b.Revision == "" {
			b.Revision = s.Value
		}
	}
	return b
}
