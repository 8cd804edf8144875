package config

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"

	"keyctl/internal/fault"
)

// settings are the values that won, still as text, and where each came from.
type settings struct {
	Store        string `mapstructure:"store"`
	Server       string `mapstructure:"server"`
	CAFile       string `mapstructure:"ca-file"`
	Token        string `mapstructure:"token"`
	MasterKey    string `mapstructure:"master-key"`
	Context      string `mapstructure:"context"`
	Output       string `mapstructure:"output"`
	NoInput      bool   `mapstructure:"no-input"`
	Timeout      string `mapstructure:"timeout"`
	Color        string `mapstructure:"color"`
	DefaultGrace string `mapstructure:"default-grace"`
	OTPCommand   string `mapstructure:"otp-command"`

	Listen          string `mapstructure:"listen"`
	TLSCert         string `mapstructure:"tls-cert"`
	TLSKey          string `mapstructure:"tls-key"`
	BehindProxy     bool   `mapstructure:"behind-proxy"`
	TrustedProxies  string `mapstructure:"trusted-proxies"`
	ForwardedHeader string `mapstructure:"forwarded-header"`
	ClockSkew       string `mapstructure:"clock-skew"`

	sources map[string]string // by the name of the setting; a setting that nobody gave is missing
}

// given reports whether a setting has a value other than its default.
func (s settings) given(key string) bool { return s.sources[key] != "" }

// source names the origin of a setting for messages: `--store`, `KEYCTL_STORE`, `"store" in "/…/config.yaml"`.
func (s settings) source(key string) string { return s.sources[key] }

// layer is one place that settings come from. Values are text.
type layer struct {
	values map[string]any
	source func(key string) string
}

// resolve lets every place have its say. The name of the context has to be known before what the context says, so the
// other layers are asked for it first.
func (in Inputs) resolve(home string, doc document) (settings, error) {
	env, err := in.environmentLayer()
	if err != nil {
		return settings{}, err
	}
	file, err := doc.layer(home)
	if err != nil {
		return settings{}, err
	}
	s, err := merge(in.Flags, file, env)
	if err != nil || !s.given(keyContext) {
		return s, err
	}
	context, err := doc.contextLayer(s.Context, home)
	if err != nil {
		return settings{}, err
	}
	return merge(in.Flags, file, context, env)
}

// merge returns the settings of layers, later ones before earlier ones and flags before all. A value that was given but
// is empty is an error: it is more likely an unset variable in a script than a wish for the default.
func merge(flags *pflag.FlagSet, layers ...layer) (settings, error) {
	s := settings{sources: make(map[string]string)}
	v := viper.New()
	if err := onePlace(flags, layers); err != nil {
		return settings{}, err
	}
	for _, l := range layers {
		if err := v.MergeConfigMap(l.values); err != nil {
			return settings{}, fmt.Errorf("merging settings: %w", err)
		}
		for key := range l.values {
			s.sources[key] = l.source(key)
		}
	}
	for _, key := range flagKeys {
		if !changed(flags, key) {
			continue
		}
		if err := v.BindPFlag(key, flags.Lookup(key)); err != nil {
			return settings{}, fmt.Errorf("binding --%s: %w", key, err)
		}
		s.sources[key] = "--" + key
	}
	if err := v.UnmarshalExact(&s); err != nil {
		return settings{}, fmt.Errorf("reading settings: %w", err)
	}
	for _, key := range slices.Sorted(maps.Keys(s.sources)) {
		if strings.TrimSpace(v.GetString(key)) == "" {
			return settings{}, fault.New(fault.Invalid, "%s is empty", s.source(key)).WithHint("leave it out or give it a value")
		}
	}
	return s, nil
}

// onePlace leaves in the layers a store or a server, whichever the strongest of them names that names one: who says --store
// does not mean the server of his context. Nor does who says --server mean to send the context's token there: what lets
// somebody in goes with the server beside which it stands.
func onePlace(flags *pflag.FlagSet, layers []layer) error {
	strongest := -1
	for i, l := range layers {
		_, store := l.values[keyStore]
		_, server := l.values[keyServer]
		if store && server {
			return fault.New(fault.Invalid, "both %s and %s are given", l.source(keyStore), l.source(keyServer)).
				WithHint("a command works on a store or on a server: leave one out")
		}
		if store || server {
			strongest = i
		}
	}
	store, server := changed(flags, keyStore), changed(flags, keyServer)
	if store && server {
		return fault.New(fault.Invalid, "both --store and --server are given").
			WithHint("a command works on a store or on a server: leave one out")
	}
	var to any
	switch {
	case server:
		to = flags.Lookup(keyServer).Value.String()
	case strongest >= 0 && !store:
		to = layers[strongest].values[keyServer]
	}
	for i, l := range layers {
		if i >= strongest && !store && !server {
			continue
		}
		if own, named := l.values[keyServer]; named && !sameServer(own, to) {
			delete(l.values, keyToken)
			delete(l.values, keyCAFile)
		}
		delete(l.values, keyStore)
		delete(l.values, keyServer)
	}
	return nil
}

// sameServer compares two addresses as they were written.
func sameServer(a, b any) bool {
	one, _ := a.(string)
	other, _ := b.(string)
	return strings.TrimSuffix(one, "/") == strings.TrimSuffix(other, "/")
}

func changed(flags *pflag.FlagSet, name string) bool {
	if flags == nil {
		return false
	}
	flag := flags.Lookup(name)
	return flag != nil && flag.Changed
}

// environmentLayer collects the variables that are settings. KEYCTL_OTP is not among them: a code is read when one is
// needed.
func (in Inputs) environmentLayer() (layer, error) {
	variables := map[string]string{
		keyContext: "KEYCTL_CONTEXT",
		keyStore:   "KEYCTL_STORE",
		keyOutput:  "KEYCTL_OUTPUT",

		keyServer: "KEYCTL_SERVER", keyCAFile: "KEYCTL_CA_FILE",

		keyListen: "KEYCTL_LISTEN", keyTLSCert: "KEYCTL_TLS_CERT", keyTLSKey: "KEYCTL_TLS_KEY",
		keyTrustedProxies: "KEYCTL_TRUSTED_PROXIES", keyForwardedHeader: "KEYCTL_FORWARDED_HEADER", keyClockSkew: "KEYCTL_CLOCK_SKEW",
	}
	values := make(map[string]any)
	for key, variable := range variables {
		if value := in.Getenv(variable); value != "" {
			values[key] = value
		}
	}
	for key, variable := range map[string]string{keyNoInput: "KEYCTL_NO_INPUT", keyBehindProxy: "KEYCTL_BEHIND_PROXY"} {
		if value := in.Getenv(variable); value != "" {
			values[key] = value != "0" && !strings.EqualFold(value, "false")
			variables[key] = variable
		}
	}
	for key, secret := range map[string]*secret{keyMasterKey: masterKey, keyToken: token} {
		path := in.Getenv(secret.fileVariable)
		switch {
		case path != "" && in.Getenv(secret.variable) != "":
			return layer{}, fault.New(fault.Invalid, "both %s and %s are set", secret.variable, secret.fileVariable).
				WithHint("unset the one that is not meant")
		case path != "":
			values[key], variables[key] = fromFile+":"+path, secret.fileVariable
		case in.Getenv(secret.variable) != "":
			values[key], variables[key] = fromEnv+":"+secret.variable, secret.variable
		}
	}
	return layer{values, func(key string) string { return variables[key] }}, nil
}

// layer returns the settings at the top of the file.
func (d document) layer(home string) (layer, error) {
	return d.newLayer(d.values, home, func(key string) string { return fmt.Sprintf("%q in %q", key, d.path) })
}

// contextLayer returns the settings of one context; an unknown one is fault.NotFound with the names there are.
func (d document) contextLayer(name, home string) (layer, error) {
	values, ok := d.contexts[name]
	if !ok {
		return layer{}, d.unknownContext(name)
	}
	return d.newLayer(values, home, func(key string) string {
		return fmt.Sprintf("%q of context %q in %q", key, name, d.path)
	})
}

func (d document) unknownContext(name string) error {
	known := slices.Sorted(maps.Keys(d.contexts))
	err := fault.New(fault.NotFound, "no context %q", name)
	if len(known) > 0 {
		return err.WithHint("known contexts: %s", strings.Join(known, ", "))
	}
	return err.WithHint("no contexts are configured; they are kept in %q", d.path)
}

// newLayer copies values, with a leading ~/ in paths made the user's home: no shell has seen them.
func (d document) newLayer(values map[string]string, home string, source func(string) string) (layer, error) {
	l := layer{make(map[string]any, len(values)), source}
	for key, value := range values {
		if slices.Contains(pathKeys, key) {
			scheme, path, found := strings.Cut(value, ":")
			if !found { // a path by itself
				scheme, path = "", value
			}
			rest, inHome := strings.CutPrefix(path, "~/")
			if inHome && home == "" {
				return layer{}, fault.New(fault.Invalid, "%s begins at the home directory, and there is none", source(key)).
					WithHint("set HOME, or write the whole path")
			}
			switch path := filepath.Join(home, rest); {
			case inHome && (scheme == "sqlite" || scheme == fromFile):
				value = scheme + ":" + path
			case inHome && scheme == "":
				value = path
			}
		}
		l.values[key] = value
	}
	return l, nil
}
