package access

import "testing"

// TestRolesMay writes the matrix of threats and roles down a second time, by hand: o owner, a admin, c ci, u auditor, v verifier.
func TestRolesMay(t *testing.T) {
	letters := map[Role]byte{Owner: 'o', Admin: 'a', CI: 'c', Auditor: 'u', Verifier: 'v'}
	want := map[Permission]string{
		KeysRead: "oacu", KeysCreate: "oac", KeysEdit: "oa", KeysDisable: "oac", KeysDelete: "oa", KeysRoll: "oa",
		DatasetsRead: "oau", DatasetsWrite: "oa", PrimaryKeysRead: "oau", PrimaryKeysWrite: "oa", OTPOwn: "oa", Verify: "oav",
		AuditRead: "oau", OperatorsRead: "oau", OperatorsWrite: "o", TokensRead: "oau", TokensWrite: "oa", TokensRevoke: "oacuv",
		SelfRead: "oacuv",
	}
	if len(want) != len(Permissions()) {
		t.Errorf("%d permissions are listed here, want %d", len(want), len(Permissions()))
	}
	for _, p := range Permissions() {
		got := ""
		for _, role := range Roles() {
			if role.May(p) {
				got += string(letters[role])
			}
		}
		if got != want[p] {
			t.Errorf("%s is for %q, want %q", p, got, want[p])
		}
	}
	for _, stranger := range []Role{"", "Owner", "root"} {
		if stranger.May(SelfRead) {
			t.Errorf("the role %q may %s", stranger, SelfRead)
		}
	}
	if Owner.May("everything") || Admin.May("") {
		t.Error("a permission that does not exist was granted")
	}
}
