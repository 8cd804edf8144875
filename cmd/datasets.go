package cmd

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"keyctl/internal/keys"
	"keyctl/internal/structured"
	"keyctl/internal/term"
)

func newDatasets(a *app) *cobra.Command {
	return a.group(&cobra.Command{
		Use:   "datasets",
		Short: "Create datasets and say which keys reach them",
		Long: `A dataset is a named set of data that keys may encrypt and decrypt, under one Primary Key. Any number of keys reach the same
dataset; a key reaches at most one unstructured dataset.`,
	}, newDatasetsList, newDatasetsShow, newDatasetsCreate, newDatasetsEdit, newDatasetsDelete, newDatasetsAttach, newDatasetsDetach, newDatasetsRotate)
}

// datasetDataKey tells which data key of a structured dataset encrypts, and how many can follow.
func datasetDataKey(_ *printer, d keys.DatasetView) term.Cell {
	if d.CurrentKeyNumber == nil || d.RotationsLeft == nil {
		return text("one for each encryption")
	}
	return text(fmt.Sprintf("number %d; %d more can follow", *d.CurrentKeyNumber, *d.RotationsLeft))
}

// datasetFields tells how the fields of a structured dataset look.
func datasetFields(_ *printer, d keys.DatasetView) term.Cell {
	f := d.Format
	if f == nil {
		return text("")
	}
	length := fmt.Sprintf("%d to %d", f.MinInputLength, f.MaxInputLength)
	if f.MinInputLength == f.MaxInputLength {
		length = strconv.Itoa(f.MinInputLength)
	}
	words := fmt.Sprintf("%s, %s characters out of %d, encrypted into %d", f.DataType, length,
		utf8.RuneCountInString(f.InputCharacterSet), utf8.RuneCountInString(f.OutputCharacterSet))
	for _, rule := range f.PassthroughRules {
		switch rule.Type {
		case structured.KeepCharacters:
			words += fmt.Sprintf("; keeps %q", rule.Characters)
		case structured.KeepPrefix:
			words += fmt.Sprintf("; keeps the first %d", rule.Length)
		case structured.KeepSuffix:
			words += fmt.Sprintf("; keeps the last %d", rule.Length)
		}
	}
	return text(words)
}

// datasetShape says how datasets are shown.
var datasetShape = shape[keys.DatasetView]{
	id:   func(d keys.DatasetView) string { return d.ID },
	name: func(d keys.DatasetView) string { return d.Name },
	columns: []column[keys.DatasetView]{
		{"NAME", false, func(_ *printer, d keys.DatasetView) term.Cell { return text(d.Name) }},
		{"TYPE", false, func(_ *printer, d keys.DatasetView) term.Cell { return text(string(d.Type)) }},
		{"ALGORITHM", true, func(_ *printer, d keys.DatasetView) term.Cell { return text(d.Algorithm) }},
		{"PRIMARY KEY", true, func(_ *printer, d keys.DatasetView) term.Cell { return text(d.PrimaryKey) }},
		{"KEYS", true, func(_ *printer, d keys.DatasetView) term.Cell { return text(strings.Join(d.Keys, ",")) }},
		{"CREATED", true, func(p *printer, d keys.DatasetView) term.Cell { return text(p.time(&d.CreatedAt)) }},
	},
	details: []column[keys.DatasetView]{
		{"name", false, func(_ *printer, d keys.DatasetView) term.Cell { return text(d.Name) }},
		{"id", false, func(_ *printer, d keys.DatasetView) term.Cell { return text(d.ID) }},
		{"description", false, func(_ *printer, d keys.DatasetView) term.Cell { return text(d.Description) }},
		{"type", false, func(_ *printer, d keys.DatasetView) term.Cell { return text(string(d.Type)) }},
		{"algorithm", false, func(_ *printer, d keys.DatasetView) term.Cell { return text(d.Algorithm) }},
		{"Primary Key", false, func(_ *printer, d keys.DatasetView) term.Cell { return text(d.PrimaryKey) }},
		{"keys", false, func(_ *printer, d keys.DatasetView) term.Cell { return text(strings.Join(d.Keys, ", ")) }},
		{"fields", false, datasetFields},
		{"data key", false, datasetDataKey},
		{"created", false, func(p *printer, d keys.DatasetView) term.Cell {
			return text(p.time(&d.CreatedAt) + " by " + d.CreatedBy)
		}},
	},
}
