package login

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/safefile"
)

// maxIndex bounds the index, in bytes; a thousand profiles take a fifth of it.
const maxIndex = 1 << 20

// Stored says what a profile of the keyring holds, but for the secrets. Nil is unknown.
type Stored struct {
	Profile     string     `json:"profile"`
	Key         *string    `json:"key"` // name of the key
	AccessKeyID string     `json:"access_key_id"`
	Server      *string    `json:"server"`
	StoredAt    *time.Time `json:"stored_at"`
}

// indexDocument is the index as it is in its file.
type indexDocument struct {
	Credentials []Stored `json:"credentials"`
}

// index is the list of profiles in a file, because a keyring cannot be asked for all it has. It is an aid only: what is
// stored is what the keyring says, and an index that is gone, damaged or out of date hides nothing that has a name.
type index struct {
	path string // empty: there is no place for it
	wait time.Duration
	warn func(string)
}

// read returns the entries, in the order of profiles. Of a damaged index it returns those that make sense, and reports
// that it is damaged.
func (x index) read() (entries []Stored, damaged bool) {
	if x.path == "" {
		return nil, false
	}
	data, err := safefile.ReadConfig(x.path, maxIndex)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false
	}
	var doc indexDocument
	if err == nil {
		err = json.Unmarshal(data, &doc)
	}
	entries = slices.DeleteFunc(doc.Credentials, func(s Stored) bool { return !s.valid() })
	slices.SortFunc(entries, func(a, b Stored) int { return cmp.Compare(a.Profile, b.Profile) })
	return entries, err != nil || len(entries) < len(doc.Credentials)
}

// valid reports whether an entry can be one of keyctl's.
func (s Stored) valid() bool {
	return credential.IsName(s.Profile) && credential.IsAccessKeyID(s.AccessKeyID) && (s.Key == nil || credential.IsName(*s.Key))
}

// list is read for those who only look.
func (x index) list() []Stored {
	entries, damaged := x.read()
	if damaged {
		x.warn(fmt.Sprintf("the list of stored credentials %q is damaged and may lack some; the keyring still has them: "+
			"`keyctl credentials show PROFILE` puts one on the list again", x.path))
	}
	return entries
}

// lock keeps other processes from changing the profiles until unlock is called. Where the folder cannot be made there is
// nothing to lock, and the keyring can be used all the same.
func (x index) lock() (unlock func(), err error) {
	if x.path == "" {
		return func() {}, nil
	}
	dir := filepath.Dir(x.path)
	if err := safefile.MkdirPrivate(dir); err != nil {
		return func() {}, nil // change tells
	}
	return safefile.LockDir(dir, x.wait)
}

// change puts the entries in the file that edit makes of the present ones; the caller holds the lock. That it fails is
// said, and no reason to fail: the keyring has been changed already.
func (x index) change(edit func([]Stored) []Stored) {
	if err := x.tryChange(edit); err != nil {
		x.warn(fmt.Sprintf("the list of stored credentials could not be changed, so `keyctl credentials list` may be wrong: %v", err))
	}
}

func (x index) tryChange(edit func([]Stored) []Stored) error {
	if x.path == "" {
		return fault.New(fault.Invalid, "there is no home directory to keep it in")
	}
	entries, damaged := x.read()
	if damaged {
		if err := x.setAside(); err != nil {
			return err
		}
	}
	if err := safefile.MkdirPrivate(filepath.Dir(x.path)); err != nil {
		return err
	}
	staged, err := safefile.Stage(x.path)
	if err != nil {
		return err
	}
	defer staged.Discard()
	text, err := json.MarshalIndent(indexDocument{append([]Stored{}, edit(entries)...)}, "", "  ")
	if err != nil {
		return err
	}
	if _, err := staged.Write(append(text, '\n')); err != nil {
		return err
	}
	return staged.CommitReplace()
}

// setAside gives a damaged index another name: somebody may still read in it what was stored.
func (x index) setAside() error {
	for n := 1; ; n++ {
		kept := fmt.Sprintf("%s.damaged-%d", x.path, n)
		if _, err := os.Lstat(kept); err == nil {
			continue
		}
		if err := os.Rename(x.path, kept); err != nil {
			return safefile.Explain(x.path, err)
		}
		x.warn(fmt.Sprintf("the list of stored credentials was damaged; it is kept as %q", kept))
		return nil
	}
}

// add puts an entry on the list, in the place of the profile's former one.
func (x index) add(s Stored) {
	x.change(func(entries []Stored) []Stored { return append(without(entries, s.Profile), s) })
}

// drop takes a profile off the list.
func (x index) drop(profile string) {
	x.change(func(entries []Stored) []Stored { return without(entries, profile) })
}

func without(entries []Stored, profile string) []Stored {
	return slices.DeleteFunc(entries, func(s Stored) bool { return s.Profile == profile })
}

// names lists profiles for a message.
func names(entries []Stored) string {
	var all []string
	for _, s := range entries {
		all = append(all, s.Profile)
	}
	return strings.Join(all, ", ")
}
