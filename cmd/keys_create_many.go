package cmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
	"keyctl/internal/safefile"
	"keyctl/internal/term"
)

// rowResult is what became of one key of a list.
type rowResult struct {
	Line        int         `json:"line"`
	Name        string      `json:"name"`
	Result      string      `json:"result"` // created, exists or failed
	ID          *string     `json:"id"`
	AccessKeyID *string     `json:"access_key_id"`
	File        *string     `json:"file"` // with --out-dir, the one that holds the credential
	Error       *fault.Code `json:"error"`
	Message     *string     `json:"message"`
}

// rowCredential is a result that is the credential's delivery as well. The secrets of a key that was not made are null.
type rowCredential struct {
	rowResult
	SecretSigningKey      *string `json:"secret_signing_key"`
	SecretCryptoAccessKey *string `json:"secret_crypto_access_key"`
	Server                *string `json:"server"`
}

// The words of rowResult.Result.
const (
	rowCreated = "created"
	rowExists  = "exists"
	rowFailed  = "failed"
)

// bulk is a list of keys on its way into the store.
type bulk struct {
	*app
	o       createOptions
	service keys.Service
	format  credential.Format // of the files of --out-dir
	p       *printer
	table   *csvTable // with -o csv

	made, there int
	failed      []string
}

// createKeys makes the keys of a list, one after the other, while every core draws what comes next.
func (a *app) createKeys(ctx context.Context, o createOptions) error {
	b, err := a.planBulk(o)
	if err != nil {
		return err
	}
	rows, err := b.readRows()
	if err != nil {
		return err
	}
	if b.service, err = a.openOrCreate(ctx); err != nil {
		return err
	}
	taken, err := b.check(ctx, rows)
	if err != nil {
		return err
	}
	if err := b.prepare(); err != nil {
		return err
	}
	free := len(rows) - len(taken)
	drawings, stop := iter.Pull(drawAhead(ctx, a.sys.Rand, free))
	defer stop()
	screen, err := a.terminal()
	if err != nil {
		return err
	}
	a.progress = screen.NewProgress(len(rows), "keys")
	for _, r := range rows {
		err := b.create(ctx, r, taken[r.line], drawings)
		a.progress.Add(1)
		if err != nil {
			a.progress.Done()
			if ctx.Err() != nil {
				a.say("%d of %d keys were created; the same command with --if-not-exists makes the others", b.made, len(rows))
			}
			return err
		}
	}
	a.progress.Done()
	return b.finish(len(rows))
}

// planBulk reads the flags, and refuses those that say what the list says.
func (a *app) planBulk(o createOptions) (*bulk, error) {
	p, err := a.printer()
	if err != nil {
		return nil, err
	}
	b := &bulk{app: a, o: o, p: p, format: credential.Env}
	d := o.deliver
	asked := a.flags.Changed("output")
	switch {
	case o.description != "" || o.ranges != nil || o.datasets != nil || o.labels != nil || o.expires != "":
		return nil, fault.New(fault.Invalid, "with --file the list says what the keys are like").
			WithHint("leave out --description, --ip, --dataset, --label and --expires, and fill the columns of the list")
	case d.out != "" || d.copy.chosen || d.keyring.chosen || d.profile != "" || d.format == formatGitHub:
		return nil, fault.New(fault.Invalid, "with --file the credentials go to standard output or to --out-dir").
			WithHint("leave out --out, --copy, --keyring, --profile and --format github")
	case o.outDir == "" && (d.format != "" || d.replace):
		return nil, fault.New(fault.Invalid, "--format and --replace are for the files of --out-dir").WithHint("without it choose -o jsonl or -o csv")
	case o.outDir != "" && d.print:
		return nil, fault.New(fault.Invalid, "with --out-dir the credentials are not printed").WithHint("leave out --print or --out-dir")
	case asked && a.output != "jsonl" && a.output != "csv" || a.fields != "" || a.jq != "":
		return nil, fault.New(fault.Invalid, "the results of a list are written as JSON or CSV, one line a key, whole").WithHint("use -o jsonl or -o csv")
	}
	if o.outDir == "" {
		const places = "choose --out-dir DIR, or ask for the credentials in the results with -o jsonl, -o csv or --print"
		if err := a.mayPrint(asked || d.print, places); err != nil {
			return nil, err
		}
	}
	if d.format != "" {
		if b.format, err = credential.ParseFormat(d.format); err != nil {
			return nil, err
		}
	}
	if !asked || p.form != "csv" {
		p.form = "jsonl"
	}
	return b, nil
}

// readRows reads the list, and ends with all that is wrong with it.
func (b *bulk) readRows() ([]row, error) {
	var r io.Reader = b.sys.Stdin
	if b.o.file != "-" {
		f, err := os.Open(b.o.file)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fault.New(fault.NotFound, "no file %q", b.o.file).WithHint("--file takes a list of keys, or - for standard input")
		}
		if err != nil {
			return nil, safefile.Explain(b.o.file, err)
		}
		defer f.Close()
		r = f
	}
	rows, mistakes, err := readRows(r, b.now())
	if err != nil {
		return nil, safefile.Explain(b.o.file, err)
	}
	return rows, b.wrong(mistakes)
}

// check asks the store about every key: a mistake ends the command before anything is made. It returns the lines whose
// names are taken.
func (b *bulk) check(ctx context.Context, rows []row) (taken map[int]error, err error) {
	requests := make([]keys.NewKey, len(rows))
	for i, r := range rows {
		requests[i] = r.request
	}
	refusals, err := b.service.CheckKeys(ctx, requests)
	if err != nil {
		return nil, err
	}
	taken = map[int]error{}
	var mistakes []mistake
	for i, refusal := range refusals {
		switch {
		case fault.Is(refusal, fault.Exists):
			taken[rows[i].line] = refusal
		case refusal != nil:
			mistakes = append(mistakes, mistake{rows[i].line, refusal.Error()})
		}
	}
	return taken, b.wrong(mistakes)
}

// wrong tells every mistake, and makes an error of them; none is nil.
func (b *bulk) wrong(mistakes []mistake) error {
	if len(mistakes) == 0 {
		return nil
	}
	for _, m := range mistakes {
		b.say("line %d: %s", m.line, m.about)
	}
	return fault.New(fault.Invalid, "the list has mistakes (%d), the first in line %d: %s", len(mistakes), mistakes[0].line, mistakes[0].about).
		WithHint("mend them and run the command again; nothing was created")
}

// prepare makes sure that the results, and the credentials, have somewhere to go.
func (b *bulk) prepare() (err error) {
	if b.o.outDir != "" {
		err = safefile.MkdirPrivate(b.o.outDir)
	} else {
		err = (&streamSink{w: b.sys.Stdout, alone: true}).prepare()
	}
	if err == nil && b.p.form == "csv" && !b.p.quiet {
		b.table, err = newCSVTable(b.p, b.document(rowCredential{}))
	}
	return err
}

// document is a result as it is printed: without the fields for secrets where there is another place for these.
func (b *bulk) document(r rowCredential) any {
	if b.o.outDir != "" {
		return r.rowResult
	}
	return r
}

// print writes a result at once. Where it goes may be the terminal that shows the progress.
func (b *bulk) print(r rowCredential) (err error) {
	b.progress.Above(func() { err = b.write(r) })
	return err
}

func (b *bulk) write(r rowCredential) error {
	switch {
	case b.p.quiet && r.Result == rowFailed:
		return nil
	case b.p.quiet:
		return b.p.line(*r.ID)
	case b.table == nil:
		return b.p.document(b.document(r))
	}
	if err := b.table.write(b.document(r)); err != nil {
		return err
	}
	return b.table.flush()
}

// create makes one key. The error is one that ends the whole list; one of this key alone is a result.
func (b *bulk) create(ctx context.Context, r row, taken error, drawings func() (*drawing, bool)) error {
	result := rowCredential{rowResult: rowResult{Line: r.line, Name: r.request.Name, Result: rowCreated}}
	printed := false
	key, err := b.existing(ctx, r, taken)
	switch {
	case err != nil:
	case key != nil:
		result.Result = rowExists
	default:
		d, s := b.delivery(r, &result)
		key, err = b.issueRow(ctx, r, d, drawings)
		printed = s.printed
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case b.o.outDir == "" && fault.Is(err, fault.Undelivered):
		return err // nobody reads the results any more
	case err != nil:
		b.fails(&result, err)
	case key != nil:
		result.ID, result.AccessKeyID = &key.ID, key.AccessKeyID
	}
	switch {
	case err != nil:
	case result.Result == rowExists:
		b.there++
	default:
		b.made++
	}
	if printed && err == nil {
		return nil
	}
	return b.print(result)
}

// existing is the active key that has the name already, where that is as it should be.
func (b *bulk) existing(ctx context.Context, r row, taken error) (*keys.KeyView, error) {
	if taken == nil || !b.o.ifNotExists {
		return nil, taken
	}
	key, differences, err := b.service.ExistingKey(ctx, r.request)
	if err != nil {
		return nil, err
	}
	if len(differences) > 0 {
		b.warn(fmt.Sprintf("line %d: the %s of key %q differ from what is asked for", r.line, strings.Join(differences, " and "), key.Name))
	}
	return &key, nil
}

// issueRow makes the key of a row and hands its credential out, or proves the one that an interrupted run handed out.
func (b *bulk) issueRow(ctx context.Context, r row, d *delivery, drawings func() (*drawing, bool)) (*keys.KeyView, error) {
	name := r.request.Name
	drawn, ok := drawings()
	if !ok {
		return nil, cmp.Or(ctx.Err(), context.Canceled)
	}
	if resumed, err := b.resume(ctx, b.service, d, name, false); resumed || err != nil {
		key, lookErr := b.service.Key(ctx, name)
		return &key, cmp.Or(err, lookErr)
	}
	proven, err := b.issue(ctx, b.service, drawn, d, func(offer keys.Offer) (keys.Pending, error) {
		r.request.Offer = offer
		return b.service.CreateKey(ctx, r.request)
	})
	return &proven.Key, err
}

// delivery is the way of one key's credential: to a file of its own, or with the result.
func (b *bulk) delivery(r row, result *rowCredential) (*delivery, *resultSink) {
	s := &resultSink{b: b, result: result}
	if b.o.outDir == "" {
		return &delivery{sinks: []sink{s}, stdout: true}, s
	}
	path := filepath.Join(b.o.outDir, r.request.Name+extensions[b.format])
	result.File = &path
	file := b.newFileSink(path, b.format, r.request.Name, b.o.deliver.replace)
	return &delivery{sinks: []sink{file}, replaces: b.o.deliver.replace}, s
}

// extensions are what the names of credential files end in.
var extensions = map[credential.Format]string{
	credential.Text: ".txt", credential.Env: ".env", credential.Dotenv: ".env", credential.JSON: ".json", credential.INI: ".ini",
	credential.K8s: ".yaml",
}

// fails makes a failure of a result.
func (b *bulk) fails(result *rowCredential, err error) {
	code, message := fault.CodeOf(err), term.Clean(credential.MaskTokens(err.Error()))
	*result = rowCredential{rowResult: rowResult{Line: result.Line, Name: result.Name, Result: rowFailed, Error: &code, Message: &message}}
	who := fmt.Sprintf("line %d %q", result.Line, result.Name)
	b.failed = append(b.failed, who)
	b.say("%s: %s", who, message)
}

// finish sums up.
func (b *bulk) finish(all int) error {
	b.say("created %d, found %d, failed %d", b.made, b.there, len(b.failed))
	if len(b.failed) == 0 {
		return nil
	}
	return fault.New(fault.BatchFailed, "%d of %d keys were not created: %s", len(b.failed), all, strings.Join(b.failed, ", ")).
		WithHint("once the cause is mended, the same command with --if-not-exists makes them")
}

// resultSink is a result that carries its credential.
type resultSink struct {
	b       *bulk
	result  *rowCredential
	printed bool
}

func (s *resultSink) place() string  { return "standard output" }
func (s *resultSink) where() string  { return "" }
func (s *resultSink) prepare() error { return nil }
func (s *resultSink) finish() error  { return nil }
func (s *resultSink) abort()         {}

func (s *resultSink) fill(i issued) error {
	r := s.result
	signing, crypto := i.cred.SigningKey.Reveal(), i.cred.CryptoAccessKey.Reveal()
	r.ID, r.AccessKeyID = &i.pending.KeyID, &i.cred.AccessKeyID
	r.SecretSigningKey, r.SecretCryptoAccessKey = &signing, &crypto
	if i.cred.Server != "" {
		r.Server = &i.cred.Server
	}
	if err := s.b.print(*r); err != nil {
		return err
	}
	s.printed = true
	return settle(s.b.sys.Stdout)
}
