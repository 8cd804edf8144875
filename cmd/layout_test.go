//go:build unix

package cmd

import (
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	mathrand "math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/charmbracelet/lipgloss"
	"github.com/google/go-cmp/cmp"

	"keyctl/internal/access"
	"keyctl/internal/credential"
	"keyctl/internal/envelope"
	"keyctl/internal/iprange"
	"keyctl/internal/keys"
	"keyctl/internal/store"
)

var updateLayout = flag.Bool("update-layout", false, "rewrite the golden files in testdata/layout")

// layoutClock is when the screens are looked at.
var layoutClock = time.Date(2026, 3, 1, 12, 0, 10, 0, time.UTC)

// layouts are the screens that are kept, by the command that shows them.
var layouts = map[string]string{
	"keys-list": "keys list", "keys-show": "keys show web-01", "datasets-list": "datasets list", "rolls-list": "rolls list",
	"rolls-show": "rolls show web-01", "audit-list": "audit list", "otp-status": "otp status",
	"usage": "usage --since 30d", "usage-key": "usage --key web-01",
}

// Screens look as they are kept, on narrow, usual and wide terminals. Tables fit, but for the audit log on a narrow one,
// whose names and ids are too long for that, and no id in them is cut.
func TestLayout(t *testing.T) {
	w := newWorld(t)
	m := w.furnish()
	for _, columns := range []int{60, 80, 200} {
		for name, line := range layouts {
			screen := plainScreen(w.at(layoutClock, columns, strings.Fields(line)...).ends(exitOK))
			w.keeps(name, columns, screen)
			for _, id := range regexp.MustCompile(`\bKC[0-9A-Za-z]*`).FindAllString(screen, -1) {
				if !m.ids[id] {
					t.Errorf("keyctl %s shows %q at %d columns: an id that was cut", line, id, columns)
				}
			}
			for shown := range strings.Lines(screen) {
				width := lipgloss.Width(strings.TrimSuffix(shown, "\n"))
				if width > columns && strings.HasSuffix(line, "list") && (columns >= 80 || name != "audit-list") {
					t.Errorf("keyctl %s shows a line of %d columns at %d: %q", line, width, columns, shown)
				}
			}
		}
	}
}

// So do the dialogues: a create, an enrolment on the spot and the roll that it is for.
func TestDialogueLayout(t *testing.T) {
	for _, columns := range []int{60, 80, 200} {
		w := newWorld(t)
		m := w.furnish()
		w.keeps("box", columns, drawnOver(plainScreen(w.at(layoutClock, columns, "keys", "create", "web-02").ends(exitOK))))
		w.at(layoutClock, columns, "otp", "reset", "--yes").ends(exitOK)
		s := w.at(layoutClock, columns, "roll", "web-01", "--finish-previous").expect("[y/N]: ").types("y\r").enrols()
		s.expect("or a date: ").types("3\r").expect("s left): ")
		next := access.CodeAt(s.seed, access.StepAt(layoutClock)+1).Reveal()
		screen := plainScreen(s.types(next + "\r").ends(exitOK))
		for _, secret := range []string{next, access.CodeAt(s.seed, access.StepAt(layoutClock)).Reveal()} {
			screen = strings.Replace(screen, secret, "287082", 1)
		}
		w.keeps("roll-enrolling", columns, drawnOver(screen))
		if !m.ids[regexp.MustCompile(`old credential (KC\S+)`).FindStringSubmatch(screen)[1]] {
			t.Errorf("the screen shows %q, want the old id whole", screen)
		}
	}
}

// A box that was copied from the screen is read back whole, name included, with borders of either kind.
func TestBoxIsReadBack(t *testing.T) {
	w := newWorld(t)
	for name, locale := range map[string]string{"web-01": "C.UTF-8", "web-02": "C"} {
		c := w.command("keys", "create", name)
		c.Env = append(c.Env, "LC_ALL="+locale)
		screen := plainScreen(w.seat(c, 80).ends(exitOK))
		if strings.Contains(screen, "╭") != (locale != "C") {
			t.Errorf("in the locale %s the screen shows %q", locale, screen)
		}
		path := w.write(name+".txt", screen)
		if cred := parseCredential(t, screen, ""); cred.Name != name {
			t.Errorf("the box reads as one of the key %q, want %q", cred.Name, name)
		}
		w.ok("verify", "--from", path)
	}
}

// at runs keyctl at a set time on a terminal of so many columns.
func (w *world) at(now time.Time, columns int, args ...string) *console {
	w.t.Helper()
	path, err := exec.LookPath("keyctl") // the test binary: only that can be told the time
	if err != nil {
		w.t.Fatal(err)
	}
	c := w.command(args...)
	c.Path = path
	c.Env = append(c.Env, "KEYCTL_TEST_NOW="+now.Format(time.RFC3339Nano))
	s := w.seat(c, columns)
	s.now = func() time.Time { return now }
	return s
}

// plainScreen is what was shown, without colours.
func plainScreen(screen string) string {
	return strings.ReplaceAll(colour.ReplaceAllString(screen, ""), "\r\n", "\n")
}

// drawn is what is drawn at random, or was furnished so, and modules of a QR code.
var drawn = regexp.MustCompile(`\bKC[0-9A-Za-z]{22}\b|\bkc[sx]_[0-9A-Za-z]{49}\b|\b(key|ds|pk|op|st)_[0-9A-Za-z]{22}\b|\b[A-Z2-7]{32}\b|` +
	`\b[A-Z2-7]{4}( [A-Z2-7]{4}){7}\b|\b[A-Z2-7]{4}(-[A-Z2-7]{4}){5}\b`)

var qrLine = regexp.MustCompile(`(?m)^[█▀▄ ]{30,}$`)

// drawnOver replaces what differs from run to run by as many other characters.
func drawnOver(screen string) string {
	screen = drawn.ReplaceAllStringFunc(screen, func(text string) string {
		return regexp.MustCompile(`[0-9A-Za-z]`).ReplaceAllString(text, "x")
	})
	return qrLine.ReplaceAllStringFunc(screen, func(line string) string { return strings.Repeat("█", len([]rune(line))) })
}

// keeps compares a screen with the file that keeps it.
func (w *world) keeps(name string, columns int, screen string) {
	w.t.Helper()
	path := filepath.Join("testdata", "layout", fmt.Sprintf("%s-%d.txt", name, columns))
	screen = regexp.MustCompile(`\b(key|ds|pk|op|st)_[0-9A-Za-z]{22}\b`).ReplaceAllString(screen, "${1}_"+strings.Repeat("x", 22))
	if *updateLayout {
		if err := os.WriteFile(path, []byte(screen), 0o644); err != nil {
			w.t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		w.t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), screen); diff != "" {
		w.t.Errorf("the screen differs from %s (-want +got), -update-layout rewrites it:\n%s", path, diff)
	}
}

// furniture is a store with something of everything in it, made over a month by an operator called alice, whoever runs
// the tests.
type furniture struct {
	w     *world
	local *keys.Local
	now   time.Time
	draw  *mathrand.ChaCha8 // of access key ids, so that they are the same each time
	ids   map[string]bool
	seed  access.Seed
}

// furnish makes the store of layouts.
func (w *world) furnish() *furniture {
	w.t.Helper()
	m := &furniture{w: w, now: layoutClock.AddDate(0, -1, 0), draw: mathrand.NewChaCha8([32]byte{}), ids: map[string]bool{}}
	master, err := envelope.DrawMasterKey(rand.Reader)
	m.must(err)
	m.must(os.MkdirAll(filepath.Dir(w.masterKey()), 0o700))
	m.must(os.WriteFile(w.masterKey(), []byte(master.Text().Reveal()+"\n"), 0o600))
	env := keys.Env{Now: func() time.Time { return m.now }, Rand: rand.Reader, OSUser: "alice"}
	m.must(os.MkdirAll(filepath.Dir(w.store()), 0o700))
	m.must(store.Create(context.Background(), w.store(), store.Options{}, func(ctx context.Context, db *store.DB) error {
		return keys.Init(ctx, db, master, env)
	}))
	db, err := store.Open(context.Background(), w.store(), store.Options{})
	m.must(err)
	m.local, err = keys.Open(context.Background(), db, master, env)
	m.must(err)
	m.move()
	m.must(db.Close())
	return m
}

func (m *furniture) must(err error) {
	m.w.t.Helper()
	if err != nil {
		m.w.t.Fatal(err)
	}
}

// move brings the furniture in.
func (m *furniture) move() {
	ctx := context.Background()
	for _, dataset := range []keys.NewDataset{
		{Name: "payments", Description: "card data", Type: keys.Unstructured},
		{Name: "archive", Type: keys.Unstructured, PrimaryKey: "payments"},
	} {
		_, _, err := m.local.CreateDataset(ctx, dataset)
		m.must(err)
	}
	ranges, err := iprange.ParseList([]string{"10.0.0.0/8", "192.0.2.7", "2001:db8::/32"})
	m.must(err)
	m.create(keys.NewKey{
		Name: "web-01", Description: "the web servers of the shop", Labels: map[string]string{"env": "prod", "team": "shop"}, IPRanges: ranges,
		Datasets: []string{"payments"},
	})
	m.create(keys.NewKey{Name: "ci-tmp", Datasets: []string{"payments"}, ExpiresAt: layoutClock.AddDate(0, 0, -2)})
	m.create(keys.NewKey{Name: "billing-eu", Datasets: []string{"archive"}, ExpiresAt: layoutClock.AddDate(0, 3, 0)})
	m.create(keys.NewKey{Name: "old-laptop"})
	m.enrol()
	m.now = layoutClock.AddDate(0, 0, -9)
	m.roll("web-01")
	_, err = m.local.DisableKey(ctx, "old-laptop", true)
	m.must(err)
	m.now = layoutClock.Add(-20 * time.Hour)
	m.roll("web-01")
	if _, err = m.local.CancelRoll(ctx, "web-01", ""); err == nil {
		m.w.t.Error("a roll was cancelled without a code")
	}
	m.tell("web-01", "ubiq-python 2.3.2", keys.ActionDecrypt, 120, 4310, 3999, 12, 0, 2204)
	m.tell("web-01", "ubiq-go 2.2.9", keys.ActionEncrypt, 900, 1020, 870)
	m.tell("billing-eu", "ubiq-java 2.3.1", keys.ActionEncrypt, 310, 40, 1)
	db := openSQL(m.w.t, m.w.store())
	defer db.Close()
	used := layoutClock.Add(-2 * time.Minute).UnixMicro()
	_, err = db.Exec("UPDATE credentials SET last_used_at = $1, last_used_from = '10.1.2.3'", used)
	m.must(err)
	_, err = db.Exec("UPDATE keys SET last_used_at = $1 WHERE name <> 'old-laptop'", used)
	m.must(err)
}

// tell has a client library tell what it did with a key: today, yesterday, and so on.
func (m *furniture) tell(key, library string, action keys.Action, counts ...int64) {
	m.w.t.Helper()
	view, err := m.local.Key(context.Background(), key)
	m.must(err)
	product, version, _ := strings.Cut(library, " ")
	var events []keys.UsageEvent
	for i, count := range counts {
		at := m.now.AddDate(0, 0, -i)
		events = append(events, keys.UsageEvent{Action: action, Count: count, FirstAt: at, LastAt: at, Product: product, Version: version})
	}
	m.must(keys.NewDataPlane(m.local).Track(context.Background(), keys.Claim{
		AccessKeyID: *view.AccessKeyID, Proves: func(credential.Secret) bool { return true },
		From: keys.Origin{Address: netip.MustParseAddr("10.1.2.3")},
	}, events))
}

// create makes a key and puts it in force.
func (m *furniture) create(request keys.NewKey) {
	m.w.t.Helper()
	m.issue(func(offer keys.Offer) (keys.Pending, error) {
		request.Offer = offer
		return m.local.CreateKey(context.Background(), request)
	})
}

// roll gives a key a new credential and the old one a day.
func (m *furniture) roll(key string) {
	m.w.t.Helper()
	m.issue(func(offer keys.Offer) (keys.Pending, error) {
		return m.local.Roll(context.Background(), keys.RollRequest{
			Key: key, Terms: keys.RollTerms{Grace: keys.Grace{For: 24 * time.Hour}, FinishPrevious: true}, Offer: offer,
			Code: access.CodeAt(m.seed, access.StepAt(m.now)).Reveal(),
		})
	})
}

func (m *furniture) issue(commit func(keys.Offer) (keys.Pending, error)) {
	m.w.t.Helper()
	cred, err := credential.Draw(m.draw)
	m.must(err)
	pair, err := credential.GenerateKeyPair(cred.CryptoAccessKey)
	m.must(err)
	pending, err := commit(keys.NewOffer(cred, pair))
	m.must(err)
	_, err = m.local.Prove(context.Background(), cred.AccessKeyID, credential.Proof(cred.SigningKey, pending.KeyID, cred.AccessKeyID, pending.Challenge))
	m.must(err)
	m.ids[cred.AccessKeyID] = true
}

func (m *furniture) enrol() {
	m.w.t.Helper()
	enrolled, err := m.local.EnrollOTP(context.Background())
	m.must(err)
	m.seed = seedFromText(m.w.t, enrolled.Secret.Reveal())
	_, err = m.local.ConfirmOTP(context.Background(), access.CodeAt(m.seed, access.StepAt(m.now)).Reveal())
	m.must(err)
}
