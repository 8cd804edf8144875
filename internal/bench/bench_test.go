// Package bench measures keyctl as its users run it: whole processes, beside bare programs that do only what cannot be
// left out, in turn on the same machine. Figures are ratios of medians, so that they mean the same on any machine.
//
// Nothing here fails on time: a figure above its limit is marked OVER, and a person looks. `make bench` runs it; how
// fast a package is by itself is in that package's benchmarks.
package bench

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"text/tabwriter"
	"time"
)

func TestMain(m *testing.M) {
	status := m.Run()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
	if len(table) > 0 {
		printTable()
	}
	os.Exit(status)
}

// figure is one line of the table.
type figure struct {
	what         string
	keyctl, bare time.Duration // medians; zero where the figure is no time
	value, limit float64
	least        bool   // the limit is the least that will do, not the most
	unit         string // how value and limit are written, as %.2f×
}

// table is what the benchmarks of this run found, in their order.
var table []figure

// record adds a line to the table, and the line's value to the benchmark's own output.
func record(b *testing.B, f figure, metric string) {
	b.Helper()
	b.ReportMetric(f.value, metric)
	table = append(table, f)
}

func printTable() {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nwhat\tkeyctl ms\tbare ms\tfigure\tlimit\t")
	for _, f := range table {
		over := ""
		if f.value != f.limit && f.value < f.limit == f.least {
			over = "OVER"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t"+f.unit+"\t"+f.unit+"\t%s\n", f.what, millis(f.keyctl), millis(f.bare), f.value, f.limit, over)
	}
	_ = w.Flush()
}

func millis(d time.Duration) string {
	if d == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f", float64(d.Microseconds())/1000)
}

// built holds the programs that were built in this run.
var built struct {
	sync.Mutex
	dir string
}

// program builds a package of this module as it is released, once, and returns the path of the program.
func program(b *testing.B, pkg string) string {
	b.Helper()
	built.Lock()
	defer built.Unlock()
	if built.dir == "" {
		dir, err := os.MkdirTemp("", "keyctl-bench-")
		if err != nil {
			b.Fatal(err)
		}
		built.dir = dir
	}
	path := filepath.Join(built.dir, filepath.Base(pkg)+".exe")
	if _, err := os.Stat(path); err == nil {
		return path
	}
	build := exec.Command("go", "build", "-trimpath", "-o", path, pkg)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("building %s: %v\n%s", pkg, err, out)
	}
	return path
}

// command is one way to run a program.
type command struct {
	path string
	args []string
	env  []string
}

// run runs the command to its end and returns how long it took. Its output is thrown away.
func (c command) run(b *testing.B) time.Duration {
	b.Helper()
	cmd := exec.Command(c.path, c.args...)
	cmd.Env = c.env
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	begun := time.Now()
	err := cmd.Run()
	took := time.Since(begun)
	if err != nil {
		b.Fatalf("%s %q: %v\n%s", filepath.Base(c.path), c.args, err, &stderr)
	}
	return took
}

// samples are the times of one side of a comparison.
type samples []time.Duration

func (s samples) median() time.Duration {
	sorted := slices.Sorted(slices.Values(s))
	if len(sorted) == 0 {
		return 0
	}
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// pairs runs both sides in turn, once for each iteration of the benchmark, after one run of each that only warms up. The
// side that goes first changes from pair to pair.
func pairs(b *testing.B, ours, bare func() time.Duration) (keyctl, other samples) {
	b.Helper()
	ours()
	bare()
	for b.Loop() {
		if len(other)%2 == 0 {
			keyctl = append(keyctl, ours())
			other = append(other, bare())
		} else {
			other = append(other, bare())
			keyctl = append(keyctl, ours())
		}
	}
	return keyctl, other
}

// ratio compares two commands by the ratio of their medians.
func ratio(b *testing.B, what string, limit float64, ours, bare func() time.Duration) {
	b.Helper()
	keyctl, other := pairs(b, ours, bare)
	f := figure{what: what, keyctl: keyctl.median(), bare: other.median(), limit: limit, unit: "%.2f×"}
	f.value = float64(f.keyctl) / float64(f.bare)
	record(b, f, "ratio")
}
