package access

import (
	"strings"
	"testing"

	"keyctl/internal/fault"
)

func TestR16_RolesCompareExactly(t *testing.T) {
	for _, role := range Roles() {
		if got, err := ParseRole(string(role)); err != nil || got != role {
			t.Errorf("ParseRole(%q) = %q, %v, want the role", role, got, err)
		}
	}
	refused := []string{
		"", " ", "Owner", "OWNER", "owner ", " owner", "owner\n", "owner\x00", "owners", "own", "ｏｗｎｅｒ", "οwner",
		"owne\u0072\u0301", "ow\u00adner", "owner\u200b", "ADMIN", "Ci", "cı", "auditor,owner", "verifier\t", "root", "kct_TESTTEST",
	}
	for _, text := range refused {
		got, err := ParseRole(text)
		e := fault.From(err)
		if got != "" || e == nil || e.Code != fault.Invalid {
			t.Errorf("ParseRole(%q) = %q, %v, want code %q", text, got, err, fault.Invalid)
			continue
		}
		if strings.Contains(e.Message, "TEST") || !strings.Contains(e.Hint, `"owner", "admin", "ci", "auditor", "verifier"`) {
			t.Errorf("ParseRole(%q) says %q, hint %q", text, e.Message, e.Hint)
		}
	}
}
