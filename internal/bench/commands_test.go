package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkRatioStart compares commands that open no file with cobra and viper alone.
func BenchmarkRatioStart(b *testing.B) {
	keyctl, tree := program(b, "keyctl"), program(b, "keyctl/internal/bench/bare/tree")
	env := home{dir: b.TempDir()}.env()
	for _, args := range [][]string{{"--help"}, {"version"}, {"completion", "bash"}} {
		what := "keyctl " + args[0]
		if len(args) > 1 {
			what += " " + args[1]
		}
		b.Run(args[0], func(b *testing.B) {
			ratio(b, what, 2,
				func() time.Duration { return command{keyctl, args, env}.run(b) },
				func() time.Duration { return command{tree, args, env}.run(b) })
		})
	}
}

// BenchmarkRatioList compares `keys list` of 50 keys with a program that opens the same file and selects the same rows.
func BenchmarkRatioList(b *testing.B) {
	keyctl, list := program(b, "keyctl"), program(b, "keyctl/internal/bench/bare/list")
	h := newHome(b, 50)
	h.close(b)
	bare := func() time.Duration { return command{list, []string{h.store(), "50"}, h.env()}.run(b) }
	b.Run("JSON", func(b *testing.B) {
		ours := command{keyctl, []string{"keys", "list", "-o", "json"}, h.env()}
		ratio(b, "keys list -o json, 50 keys", 1.6, func() time.Duration { return ours.run(b) }, bare)
	})
	b.Run("terminal", func(b *testing.B) {
		ours := command{keyctl, []string{"keys", "list"}, h.env()}
		ratio(b, "keys list on a terminal, 50 keys", 2.3, func() time.Duration { return ours.runOnTerminal(b) }, bare)
	})
}

// BenchmarkRatioPage compares a page of a hundred keys out of 100,000 with the same out of a hundred.
func BenchmarkRatioPage(b *testing.B) {
	keyctl := program(b, "keyctl")
	many, few := newHome(b, 100_000), newHome(b, 100)
	many.close(b)
	few.close(b)
	args := []string{"keys", "list", "--limit", "100", "-o", "json"}
	ratio(b, "keys list --limit 100, of 100,000 keys to 100", 1.5,
		func() time.Duration { return command{keyctl, args, many.env()}.run(b) },
		func() time.Duration { return command{keyctl, args, few.env()}.run(b) })
}

// BenchmarkRatioComplete compares what a shell asks for at the press of a key with a list of as many keys.
func BenchmarkRatioComplete(b *testing.B) {
	keyctl := program(b, "keyctl")
	h := newHome(b, 10_000)
	h.close(b)
	list := command{keyctl, []string{"keys", "list", "--limit", "100"}, h.env()}
	for _, args := range [][]string{{"show", ""}, {"show", "web-005"}, {"disable", ""}, {"enable", ""}} {
		complete := command{keyctl, append([]string{"__complete", "keys"}, args...), h.env()}
		b.Run(args[0]+args[1], func(b *testing.B) {
			ratio(b, "completion of keys "+args[0]+" "+args[1]+"…, 10,000 keys, to list --limit 100", 2,
				func() time.Duration { return complete.run(b) }, func() time.Duration { return list.run(b) })
		})
	}
}

// BenchmarkRatioCreate tells what `keys create` takes besides the generation of an RSA key pair. That takes 60 ms at one
// time and 300 ms at another, so this difference needs more runs than the ratios.
func BenchmarkRatioCreate(b *testing.B) {
	keyctl, pair := program(b, "keyctl"), program(b, "keyctl/internal/bench/bare/pair")
	h := newHome(b, 50)
	h.close(b)
	out, made := b.TempDir(), 0
	create := func() time.Duration {
		made++
		name := "new-" + strconv.Itoa(made)
		args := []string{"keys", "create", name, "--dataset", "payments", "--out", filepath.Join(out, name)}
		return command{keyctl, args, h.env()}.run(b)
	}
	ours, bare := pairs(b, create, func() time.Duration { return command{pair, nil, h.env()}.run(b) })
	f := figure{what: "keys create --out besides its key pair", keyctl: ours.median(), bare: bare.median(), limit: 40, unit: "%+.0f ms"}
	f.value = float64((f.keyctl - f.bare).Microseconds()) / 1000
	record(b, f, "ms-besides")
	if b.N < 100 {
		b.Logf("%d pairs are few for key pairs: -benchtime 151x", b.N)
	}
}

// bulkRows is how many keys BenchmarkRatioBulk makes in a run, and how many pairs the bare program generates.
const bulkRows = 1000

// BenchmarkRatioBulk compares `keys create -f` of a thousand rows with generating as many key pairs on the same cores. Its
// figure is the rate that is reached of theirs.
func BenchmarkRatioBulk(b *testing.B) {
	keyctl, bare := program(b, "keyctl"), program(b, "keyctl/internal/bench/bare/pairs")
	h := newHome(b, 0)
	h.close(b)
	dir, made := b.TempDir(), 0
	create := func() time.Duration {
		made++
		var list strings.Builder
		list.WriteString("name,dataset,ip,labels\n")
		for i := range bulkRows {
			fmt.Fprintf(&list, "web-%d-%d,payments,10.0.0.0/8;192.0.2.7,env=bench\n", made, i)
		}
		file := filepath.Join(dir, "list.csv")
		if err := os.WriteFile(file, []byte(list.String()), 0o600); err != nil {
			b.Fatal(err)
		}
		return command{keyctl, []string{"keys", "create", "-f", file, "--out-dir", filepath.Join(dir, "out")}, h.env()}.run(b)
	}
	var ours, pairs time.Duration
	for b.Loop() {
		ours += create()
		pairs += command{bare, []string{strconv.Itoa(bulkRows)}, h.env()}.run(b)
	}
	f := figure{what: "keys create -f, 1,000 rows, to bare key pairs", keyctl: ours, bare: pairs, limit: 85, least: true, unit: "%.0f %%"}
	f.value = 100 * float64(pairs) / float64(ours)
	record(b, f, "%-of-pairs")
}
