package cmd

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"keyctl/internal/keys"
)

const (
	expiresSoon   = 14 * 24 * time.Hour
	unusedTooLong = 90 * 24 * time.Hour
	unusedAsNew   = 30 * 24 * time.Hour // a key may wait for its first use so long
	fewCodes      = 3                   // so many recovery codes should be left
	maxNamed      = 5                   // keys that a message names
)

// secondFactor: can a guarded command be authorised today, and is there a way out when the phone is gone?
func (e *examination) secondFactor(ctx context.Context) []finding {
	if skipped := e.unreadable(); skipped != nil {
		return skipped
	}
	status, err := e.service.OTPStatus(ctx)
	switch {
	case err != nil:
		return []finding{undecided(err)}
	case status.Unconfirmed:
		return []finding{found(resultWarning, "%q began to enrol an authenticator and did not confirm it", status.Operator).
			hint("`keyctl otp confirm --otp CODE`, or `keyctl otp enroll` to begin again")}
	case !status.Enrolled:
		return []finding{found(resultWarning, "%q has no authenticator yet, and rolling a key needs one", status.Operator).
			hint("`keyctl otp enroll`, then `keyctl otp confirm --otp CODE`")}
	case status.Disabled:
		return []finding{found(resultError, "the authenticator of %q is disabled after %d wrong codes in a row", status.Operator, status.Failures).
			hint("`keyctl otp reset` with a recovery code, then `keyctl otp enroll`; look in `keyctl audit list --outcome refused` who tried")}
	case status.LockedUntil != nil:
		return []finding{found(resultWarning, "the authenticator of %q is locked until %s after %d wrong codes in a row",
			status.Operator, status.LockedUntil.Format(time.RFC3339), status.Failures).
			hint("look in `keyctl audit list --outcome refused` who tried")}
	case status.RecoveryCodesLeft < fewCodes:
		return []finding{found(resultWarning, "%q has an authenticator and %s left", status.Operator, counted(status.RecoveryCodesLeft, "recovery code")).
			hint("`keyctl otp recovery-codes --otp CODE` makes new ones")}
	}
	return []finding{found(resultOK, "%q has an authenticator and %s", status.Operator, counted(status.RecoveryCodesLeft, "recovery code"))}
}

// keySurvey is what one reading of all keys found out. The limits are those of the keys list flags that the hints name.
type keySurvey struct {
	expiring, unrestricted, idle, neverUsed someKeys // active ones
	everUsed                                bool     // some key, active or not
	err                                     error
}

// someKeys counts keys and remembers the names of the first of them.
type someKeys struct {
	n     int
	names []string
}

func (s *someKeys) add(k keys.KeyView) {
	if s.n++; s.n <= maxNamed {
		s.names = append(s.names, k.Name)
	}
}

// warn makes a finding of keys that there should be none of. verbs are those for one key and for several.
func (s someKeys) warn(verbs [2]string, hint string) []finding {
	if s.n == 0 {
		return nil
	}
	verb := verbs[min(s.n, 2)-1]
	return []finding{found(resultWarning, "%s %s: %s", counted(s.n, "key"), verb, named(s.n, s.names)).hint("%s", hint)}
}

// surveyKeys reads all keys, once.
func (e *examination) surveyKeys(ctx context.Context) *keySurvey {
	if e.keys != nil {
		return e.keys
	}
	e.keys = &keySurvey{}
	all := &listing[keys.KeyView]{fetch: func(_ int, cursor string) (keys.Page[keys.KeyView], error) {
		return e.service.Keys(ctx, keys.KeyFilter{Cursor: cursor})
	}}
	now := e.a.now()
	e.keys.err = each(all.items(), func(k keys.KeyView) error {
		e.keys.look(k, now)
		return nil
	})
	return e.keys
}

func (s *keySurvey) look(k keys.KeyView, now time.Time) {
	s.everUsed = s.everUsed || k.LastUsedAt != nil
	if k.State != keys.KeyActive {
		return
	}
	if k.ExpiresAt != nil && k.ExpiresAt.Sub(now) <= expiresSoon {
		s.expiring.add(k)
	}
	if k.IPRanges.IsAny() {
		s.unrestricted.add(k)
	}
	switch {
	case k.LastUsedAt != nil && now.Sub(*k.LastUsedAt) >= unusedTooLong:
		s.idle.add(k)
	case k.LastUsedAt == nil && now.Sub(k.CreatedAt) >= unusedAsNew:
		s.neverUsed.add(k)
	}
}

// aboutKeys makes the findings of one check of the survey; without any, none says that all is well.
func (e *examination) aboutKeys(ctx context.Context, none string, check func(*keySurvey) []finding) []finding {
	if skipped := e.unreadable(); skipped != nil {
		return skipped
	}
	survey := e.surveyKeys(ctx)
	if survey.err != nil {
		return []finding{undecided(survey.err)}
	}
	if findings := check(survey); findings != nil {
		return findings
	}
	return []finding{found(resultOK, "%s", none)}
}

// expiringKeys: which keys stop working soon?
func (e *examination) expiringKeys(ctx context.Context) []finding {
	return e.aboutKeys(ctx, "no active key expires within 14 days", func(s *keySurvey) []finding {
		return s.expiring.warn([2]string{"expires within 14 days", "expire within 14 days"},
			"`keyctl keys list --state active --expires-within 14d` lists them, `keyctl keys edit KEY --expires 90d` gives one more time")
	})
}

// unrestrictedKeys: which keys work from anywhere?
func (e *examination) unrestrictedKeys(ctx context.Context) []finding {
	return e.aboutKeys(ctx, "every active key is limited to addresses", func(s *keySurvey) []finding {
		return s.unrestricted.warn([2]string{"works from any address", "work from any address"},
			"`keyctl keys list --state active --jq '.items[] | select(.ip_ranges == []).name'` lists them, "+
				"`keyctl keys edit KEY --ip RANGE` limits one")
	})
}

// unusedKeys: which keys does nobody need? A store that never saw a key used cannot tell.
func (e *examination) unusedKeys(ctx context.Context) []finding {
	return e.aboutKeys(ctx, "every active key was used within 90 days, or is new", func(s *keySurvey) []finding {
		if !s.everUsed {
			return []finding{found(resultSkipped, "this store has not recorded any use of a key")}
		}
		const hint = "`keyctl keys list --state active %s` lists them, `keyctl keys disable KEY` switches one off"
		idle := s.idle.warn([2]string{"was not used for 90 days", "were not used for 90 days"}, fmt.Sprintf(hint, "--unused-for 90d"))
		never := s.neverUsed.warn([2]string{"was never used in 30 days or more", "were never used in 30 days or more"},
			fmt.Sprintf(hint, "--never-used --older-than 30d"))
		return append(idle, never...)
	})
}

// named lists the first of n names.
func named(n int, names []string) string {
	names = names[:min(len(names), maxNamed)]
	text := strings.Join(names, ", ")
	if more := n - len(names); more > 0 {
		text += " and " + strconv.Itoa(more) + " more"
	}
	return text
}
