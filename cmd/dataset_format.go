package cmd

import (
	"fmt"
	"io"
	"strings"

	"keyctl/internal/fault"
	"keyctl/internal/safefile"
	"keyctl/internal/structured"
)

// maxFormatFile bounds the description of a structured dataset.
const maxFormatFile = 64 << 10

// datasetFormat completes the format that the flags choose; nil if they choose none. Tweak and salt are drawn here, like
// credentials, so that a repeated request is the same one.
func (a *app) datasetFormat(o datasetOptions) (*structured.Format, error) {
	var spec structured.Spec
	switch {
	case o.preset != "" && o.file != "":
		return nil, fault.New(fault.Invalid, "a format is either a preset or described in a file").WithHint("leave out --preset or --file")
	case o.preset != "":
		preset, err := structured.PresetNamed(o.preset)
		if err != nil {
			return nil, err
		}
		spec = preset.Spec
	case o.file != "":
		text, err := a.formatFile(o.file)
		if err != nil {
			return nil, err
		}
		if spec, err = structured.ParseSpec(text); err != nil {
			return nil, err
		}
	default:
		return nil, nil
	}
	format, err := structured.New(spec, a.sys.Rand)
	if err != nil {
		return nil, err
	}
	return &format, nil
}

func (a *app) formatFile(name string) ([]byte, error) {
	if name != "-" {
		text, err := safefile.ReadConfig(name, maxFormatFile)
		return text, safefile.Explain(name, err)
	}
	text, err := io.ReadAll(io.LimitReader(a.sys.Stdin, maxFormatFile+1))
	if err == nil && len(text) > maxFormatFile {
		err = fault.New(fault.Invalid, "the description is longer than %d bytes", maxFormatFile).
			WithHint("`keyctl help dataset-formats` says what stands in one")
	}
	return text, err
}

// presetNames lists the presets for a flag.
func presetNames() string {
	presets := structured.Presets()
	names := make([]string, len(presets))
	for i, p := range presets {
		names[i] = p.Name
	}
	return strings.Join(names, ", ")
}

// presetList describes the presets, one a line.
func presetList() string {
	var b strings.Builder
	for _, p := range structured.Presets() {
		fmt.Fprintf(&b, "  %-15s %s\n", p.Name, p.About)
	}
	return b.String()
}
