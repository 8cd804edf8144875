package cmd

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// newTopics makes the help topics: commands that only have a text.
func newTopics() []*cobra.Command {
	return []*cobra.Command{
		{Use: "exit-codes", Short: "What keyctl's exit statuses mean", Long: exitCodesTopic()},
		{Use: "environment", Short: "Environment variables and configuration", Long: environmentTopic},
		{Use: "formatting", Short: "Output formats, fields and filters", Long: formattingTopic},
		{Use: "dataset-formats", Short: "How the fields of a structured dataset look", Long: datasetFormatsTopic()},
		{Use: "secrets", Short: "How secrets are handled, and how to hand them over", Long: secretsTopic},
	}
}

// newHelp makes the help command. Cobra's own answers an unknown topic with help for everything, as if all was well.
func newHelp() *cobra.Command {
	return &cobra.Command{
		Use:               "help [COMMAND | TOPIC]",
		Short:             "Show help for a command or a topic",
		Long:              `Show help for a command, or one of the topics that keyctl --help lists at its end.`,
		Annotations:       onlyReads(),
		ValidArgsFunction: helpWords,
		RunE: func(c *cobra.Command, words []string) error {
			target, rest, err := c.Root().Find(words)
			if err != nil || len(rest) > 0 {
				return unknownCommand(target, rest[0])
			}
			target.InitDefaultHelpFlag()
			return target.Help()
		},
	}
}

// exitCodesTopic writes the one table of exit statuses.
func exitCodesTopic() string {
	var b strings.Builder
	b.WriteString("keyctl tells how it went by its exit status, and the kind of failure by a code, which -o json prints on standard error.\n\n")
	for _, e := range exits {
		fmt.Fprintf(&b, "  %3d  %s\n", e.status, e.meaning)
		for _, code := range e.codes {
			fmt.Fprintf(&b, "       %s\n", code)
		}
	}
	b.WriteString("\nWith -o json a failure is one object on standard error:\n" +
		`  {"error":{"code":…,"message":…,"hint":…,"request_id":…,"retryable":…}}`)
	return b.String()
}

// datasetFormatsTopic describes presets and the file of datasets create.
func datasetFormatsTopic() string {
	return `The ciphertext of a structured field looks like the field: it has the same length, and its characters come from an alphabet. What
is kept as it is, such as the dashes of a social security number, is passed through. The format is chosen when the dataset is
created and cannot be changed: data is encrypted in it.

keyctl datasets create NAME --preset PRESET takes one of these:

` + presetList() + `
keyctl datasets create NAME -f FILE takes any other, described in YAML. Formatted strings need both character sets; whatever else is
left out takes its usual value:

  data_type: formatted_string        # or generic_string, token, integer, date, datetime
  input_character_set: "0123456789"
  output_character_set: "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"   # more characters than in the input
  passthrough_rules:
    - type: passthrough              # these characters stay where they are
      value: "-"
    - type: suffix                   # the last four stay
      value: 4
  min_input_length: 6                # without what is passed through
  max_input_length: 255

The first character of a ciphertext carries the number of the data key, so the output alphabet also limits how often the dataset
can be rotated; keyctl datasets show tells. Client libraries differ in what they know: those for Go and Python know formatted
strings alone.`
}

const environmentTopic = `A flag wins over the environment, that over the context in use, that over the rest of the configuration file, and that over the
defaults.

  KEYCTL_STORE             the store: sqlite:PATH or postgres://HOST/DATABASE
  KEYCTL_SERVER            the server, in the place of a store: https://HOST
  KEYCTL_TOKEN             the token for it (weak: other processes of yours can read the environment)
  KEYCTL_TOKEN_FILE        the file that holds the token
  KEYCTL_CA_FILE           whose certificates the server's is checked against, in PEM
  KEYCTL_MASTER_KEY        the master key itself (weak: other processes of yours can read the environment)
  KEYCTL_MASTER_KEY_FILE   the file that holds the master key
  KEYCTL_CONTEXT           the context to work in
  KEYCTL_OUTPUT            the output format, as -o
  KEYCTL_NO_INPUT          set to anything but 0 or false: never ask
  KEYCTL_OTP               an authenticator code
  KEYCTL_LISTEN            for keyctl serve, as --listen; so are KEYCTL_TLS_CERT, KEYCTL_TLS_KEY, KEYCTL_BEHIND_PROXY,
                           KEYCTL_TRUSTED_PROXIES, KEYCTL_FORWARDED_HEADER and KEYCTL_CLOCK_SKEW
  NO_COLOR                 set to anything: no colour
  CLICOLOR_FORCE           set to anything but 0: colour even where there is no terminal
  CI                       set to anything: a credential is printed only where it is asked for
  XDG_CONFIG_HOME          holds keyctl/config.yaml and keyctl/master.key (default ~/.config)
  XDG_DATA_HOME            holds keyctl/keyctl.db and keyctl/credentials.json (default ~/.local/share)

The configuration file is keyctl/config.yaml in XDG_CONFIG_HOME. Everything in it is optional:

  store: sqlite:/srv/keyctl/keyctl.db
  master-key: file:/srv/secrets/keyctl.key
  default-grace: 24h          # what a roll without --expire does where nobody can be asked
  otp-command: op item get keyctl --otp
  output: table
  color: auto
  timeout: 30s
  context: staging            # the context in use
  contexts:
    staging:
      store: sqlite:/srv/keyctl/staging.db
      master-key: file:/srv/secrets/staging.key
    prod:
      server: https://keys.example.com
      token: keyring:prod     # as keyctl login leaves it
      ca-file: /srv/secrets/ca.pem

  listen: 127.0.0.1:8420      # for keyctl serve, as its flags
  tls-cert: /srv/tls/keys.pem
  tls-key: /srv/tls/keys.key
  behind-proxy: false
  trusted-proxies: 10.0.0.1, 10.0.1.0/24
  forwarded-header: X-Forwarded-For
  clock-skew: 5m

A master key, and a token, comes from file:PATH, env:VARIABLE, keyring:NAME or command:COMMAND. A name in the keyring is an item
with the service keyctl-master-key or keyctl-token, and that user name; the command prints it, from a vault or a key management
service.`

const formattingTopic = `-o chooses the form of the answer:

  table   for people; times are relative on a terminal, RFC 3339 in UTC elsewhere (the default)
  json    one object; lists are {"items":[…],"next_cursor":…}
  jsonl   one object a line
  yaml    as json
  csv     one column a field, lists joined by semicolons
  name    names, one a line; -q writes ids

Field names are stable: fields are added, never renamed or removed. Missing values are null; times are RFC 3339 in UTC.

--json FIELDS keeps only these fields, --jq EXPRESSION filters the JSON:

  keyctl keys list --json name,state
  keyctl keys list --jq '.items[] | select(.state == "expired").name'

A list is whole unless --limit cuts it; next_cursor, passed with --cursor, goes on where the page ended.
Durations are a number and a unit: 30m, 24h, 7d, 2w, 90d. Dates are 2027-01-31 (00:00 UTC) or RFC 3339.`

const secretsTopic = `A credential leaves keyctl once, when it is made. It goes to standard output, or with --out to a new file of mode 0600, in the
format that --format names:

  env      export NAME='value' lines, for a shell (the default where there is no terminal)
  dotenv   NAME=value lines
  ini      a profile of the client libraries' credentials file
  json     one object, also with -o json
  k8s      a Kubernetes Secret
  text     for reading (the default on a terminal)

The variables are those that the client libraries read: UBIQ_ACCESS_KEY_ID, UBIQ_SECRET_SIGNING_KEY and
UBIQ_SECRET_CRYPTO_ACCESS_KEY.

Nothing is activated before it was delivered: a full disk or a reader that went away leaves no key behind, and exit status 11.
A credential cannot be shown again. If it is lost, roll the key, or delete it and create another.

keyctl run hands a credential to one program in its environment, from a file, or from the keyring of this system (Secret
Service, Keychain, Credential Manager); keyctl credentials tells what is kept there. What goes into the keyring is read back and
compared before it counts as stored. If the keyring is locked or there is none, keyctl says so; it never falls back to a file.

Secrets are never values of flags. A code may be (--otp), because it is spent at once; a file (--otp-file), a command
(--otp-command) or the prompt are better.

keyctl draws credentials on this machine. The secret crypto access key is not stored anywhere by keyctl: who loses it needs a new
key, and the data stays readable through other keys of the dataset.`
