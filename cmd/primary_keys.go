package cmd

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"keyctl/internal/keys"
	"keyctl/internal/term"
)

func newPrimaryKeys(a *app) *cobra.Command {
	return a.group(&cobra.Command{
		Use:   "primary-keys",
		Short: "Create, rotate and switch the root keys of datasets",
		Long: `A Primary Key is the root key of one or more datasets. It has versions, is sealed in the store and never leaves it. Rotating adds
a version; older ones stay, so that what was encrypted under them decrypts.`,
	}, newPrimaryKeysList, newPrimaryKeysShow, newPrimaryKeysCreate, newPrimaryKeysRotate, newPrimaryKeysDisable, newPrimaryKeysEnable)
}

// primaryKeyShape says how Primary Keys are shown.
var primaryKeyShape = shape[keys.PrimaryKeyView]{
	id:   func(k keys.PrimaryKeyView) string { return k.ID },
	name: func(k keys.PrimaryKeyView) string { return k.Name },
	columns: []column[keys.PrimaryKeyView]{
		{"NAME", false, func(_ *printer, k keys.PrimaryKeyView) term.Cell { return text(k.Name) }},
		{"STATE", false, primaryKeyState},
		{"VERSION", false, func(_ *printer, k keys.PrimaryKeyView) term.Cell {
			return text(strconv.FormatUint(uint64(k.CurrentVersion), 10))
		}},
		{"DATASETS", true, func(_ *printer, k keys.PrimaryKeyView) term.Cell { return text(strings.Join(k.Datasets, ",")) }},
		{"CREATED", true, func(p *printer, k keys.PrimaryKeyView) term.Cell { return text(p.time(&k.CreatedAt)) }},
	},
	details: []column[keys.PrimaryKeyView]{
		{"name", false, func(_ *printer, k keys.PrimaryKeyView) term.Cell { return text(k.Name) }},
		{"id", false, func(_ *printer, k keys.PrimaryKeyView) term.Cell { return text(k.ID) }},
		{"description", false, func(_ *printer, k keys.PrimaryKeyView) term.Cell { return text(k.Description) }},
		{"state", false, primaryKeyState},
		{"datasets", false, func(_ *printer, k keys.PrimaryKeyView) term.Cell { return text(strings.Join(k.Datasets, ", ")) }},
		{"versions", false, func(p *printer, k keys.PrimaryKeyView) term.Cell { return text(versionText(p, k.Versions)) }},
		{"created", false, func(p *printer, k keys.PrimaryKeyView) term.Cell {
			return text(p.time(&k.CreatedAt) + " by " + k.CreatedBy)
		}},
	},
}

func primaryKeyState(_ *printer, k keys.PrimaryKeyView) term.Cell {
	tone := term.Good
	if k.State == keys.PrimaryKeyDisabled {
		tone = term.Bad
	}
	return term.Cell{Text: string(k.State), Tone: tone}
}

func versionText(p *printer, versions []keys.PrimaryKeyVersionView) string {
	texts := make([]string, len(versions))
	for i, v := range versions {
		texts[i] = fmt.Sprintf("%d %s (%s)", v.Version, v.State, p.time(&v.CreatedAt))
	}
	return strings.Join(texts, ", ")
}
