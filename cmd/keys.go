package cmd

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"keyctl/internal/keys"
	"keyctl/internal/term"
)

func newKeys(a *app) *cobra.Command {
	return a.group(&cobra.Command{
		Use:   "keys",
		Short: "Create, show, edit, switch, delete and roll API keys",
		Long: `A key is an API key: a name with descriptions, labels, allowed address ranges, datasets and an optional end. It stays the
same when its credential is rolled.

Where a command takes KEY, give a name, an access key id, or the beginning of an id (at least 6 characters).`,
	}, newKeysList, newKeysShow, newKeysCreate, newKeysEdit, newKeysEnable, newKeysDisable, newKeysDelete, newRoll, newKeysActivate)
}

// keyShape says how keys are shown.
var keyShape = shape[keys.KeyView]{
	id:   func(k keys.KeyView) string { return k.ID },
	name: func(k keys.KeyView) string { return k.Name },
	columns: []column[keys.KeyView]{
		{"NAME", false, func(_ *printer, k keys.KeyView) term.Cell { return text(k.Name) }},
		{"STATE", false, keyState},
		{"ACCESS KEY ID", false, func(_ *printer, k keys.KeyView) term.Cell { return text(orNone(k.AccessKeyID)) }},
		{"DATASETS", true, func(_ *printer, k keys.KeyView) term.Cell { return text(strings.Join(k.Datasets, ",")) }},
		{"IP RANGES", true, func(_ *printer, k keys.KeyView) term.Cell { return text(k.IPRanges.String()) }},
		{"LAST USED", true, func(p *printer, k keys.KeyView) term.Cell { return text(p.time(k.LastUsedAt)) }},
		{"EXPIRES", true, func(p *printer, k keys.KeyView) term.Cell { return text(p.time(k.ExpiresAt)) }},
	},
	details: []column[keys.KeyView]{
		{"name", false, func(_ *printer, k keys.KeyView) term.Cell { return text(k.Name) }},
		{"id", false, func(_ *printer, k keys.KeyView) term.Cell { return text(k.ID) }},
		{"description", false, func(_ *printer, k keys.KeyView) term.Cell { return text(k.Description) }},
		{"state", false, keyState},
		{"access key id", false, func(_ *printer, k keys.KeyView) term.Cell { return text(orNone(k.AccessKeyID)) }},
		{"generation", false, func(_ *printer, k keys.KeyView) term.Cell { return text(strconv.Itoa(k.Generation)) }},
		{"old credential", false, keyGrace},
		{"datasets", false, func(_ *printer, k keys.KeyView) term.Cell { return text(grantedDatasets(k)) }},
		{"IP ranges", false, func(_ *printer, k keys.KeyView) term.Cell { return text(k.IPRanges.String()) }},
		{"labels", false, func(_ *printer, k keys.KeyView) term.Cell { return text(labelText(k.Labels)) }},
		{"created", false, func(p *printer, k keys.KeyView) term.Cell {
			return text(p.time(&k.CreatedAt) + " by " + k.CreatedBy)
		}},
		{"expires", false, func(p *printer, k keys.KeyView) term.Cell { return text(p.time(k.ExpiresAt)) }},
		{"last used", false, func(p *printer, k keys.KeyView) term.Cell { return text(lastUse(p, k.LastUsedAt, k.LastUsedFrom)) }},
	},
}

// grantedDatasets lists a key's datasets, and what it may do there where that is not everything.
func grantedDatasets(k keys.KeyView) string {
	words := make([]string, len(k.Datasets))
	for i, name := range k.Datasets {
		words[i] = name
		if grant := k.Grants[name]; grant != keys.FullGrant {
			words[i] += " (" + grant.Word() + ")"
		}
	}
	return strings.Join(words, ", ")
}

// stateTones adds a colour to a state's word.
var stateTones = map[keys.KeyState]term.Tone{
	keys.KeyActive: term.Good, keys.KeyPending: term.Warn, keys.KeyDisabled: term.Warn,
	keys.KeyCompromised: term.Bad, keys.KeyExpired: term.Bad, keys.KeyDeleted: term.Dim,
}

func keyState(_ *printer, k keys.KeyView) term.Cell {
	word := string(k.State)
	if k.Grace != nil {
		word += ", rolling"
	}
	return term.Cell{Text: word, Tone: stateTones[k.State]}
}

func keyGrace(p *printer, k keys.KeyView) term.Cell {
	if k.Grace == nil {
		return text("")
	}
	return text(fmt.Sprintf("%s, ends %s, last used %s", k.Grace.AccessKeyID, p.time(&k.Grace.Until),
		lastUse(p, k.Grace.LastUsedAt, k.Grace.LastUsedFrom)))
}

func orNone(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func labelText(labels map[string]string) string {
	pairs := make([]string, 0, len(labels))
	for name, value := range labels {
		pairs = append(pairs, name+"="+value)
	}
	slices.Sort(pairs)
	return strings.Join(pairs, ", ")
}
