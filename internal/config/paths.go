package config

import (
	"path/filepath"
	"runtime"
)

// dirs are the directories that keyctl keeps its own files in; an empty one is unknown.
type dirs struct {
	home   string
	config string
	data   string
}

// findDirs applies the XDG Base Directory Specification 0.8, on macOS and Windows too, so that one manual fits all:
// the variables count when they are absolute, else directories below the user's home. Windows has its own in their
// place, which programs like backups and roaming profiles know.
func findDirs(getenv func(string) string, home string) dirs {
	d := dirs{home: home, config: below(home, ".config"), data: below(home, ".local", "share")}
	if runtime.GOOS == "windows" {
		d.config = firstAbsolute(getenv("AppData"), d.config)
		d.data = firstAbsolute(getenv("LocalAppData"), d.data)
	}
	d.config = firstAbsolute(getenv("XDG_CONFIG_HOME"), d.config)
	d.data = firstAbsolute(getenv("XDG_DATA_HOME"), d.data)
	return d
}

// configFile is where the configuration is looked for.
func (d dirs) configFile() string { return below(d.config, "keyctl", "config.yaml") }

// masterKeyFile is the default place of the master key.
func (d dirs) masterKeyFile() string { return below(d.config, "keyctl", "master.key") }

// storeFile is the default place of the store.
func (d dirs) storeFile() string { return below(d.data, "keyctl", "keyctl.db") }

// credentialsFile is where the list of credentials in the keyring is.
func (d dirs) credentialsFile() string { return below(d.data, "keyctl", "credentials.json") }

// below joins names to a directory. Below an unknown directory nothing is known either.
func below(dir string, names ...string) string {
	if dir == "" {
		return ""
	}
	return filepath.Join(append([]string{dir}, names...)...)
}

// firstAbsolute returns dir, or other if dir is not absolute: the specification has relative ones ignored.
func firstAbsolute(dir, other string) string {
	if filepath.IsAbs(dir) {
		return dir
	}
	return other
}

// samePath reports whether two paths are spelled the same once they are cleaned. It does not look at the disk.
func samePath(a, b string) bool {
	return a != "" && b != "" && filepath.Clean(a) == filepath.Clean(b)
}
