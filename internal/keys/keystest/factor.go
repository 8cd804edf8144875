package keystest

import (
	"strings"
	"testing"
	"time"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
)

func testPrimaryKeys(t *testing.T, w *world) {
	made, err := w.CreatePrimaryKey(t.Context(), "shared", "for everyone")
	want := keys.PrimaryKeyView{
		ID: made.ID, Name: "shared", Description: "for everyone", State: keys.PrimaryKeyEnabled, CurrentVersion: 1,
		Versions:  []keys.PrimaryKeyVersionView{{Version: 1, State: keys.PrimaryKeyEnabled, CreatedAt: w.now()}},
		CreatedAt: w.now(), CreatedBy: "alex",
	}
	WantCode(t, "CreatePrimaryKey()", err, "")
	Diff(t, "CreatePrimaryKey()", made, want)
	w.clock.Advance(time.Hour)
	want.CurrentVersion = 2
	want.Versions = append(want.Versions, keys.PrimaryKeyVersionView{Version: 2, State: keys.PrimaryKeyEnabled, CreatedAt: w.now()})
	got, err := w.RotatePrimaryKey(t.Context(), "shared")
	WantCode(t, "RotatePrimaryKey()", err, "")
	Diff(t, "RotatePrimaryKey()", got, want)
	got, err = w.PrimaryKey(t.Context(), "shared")
	WantCode(t, "PrimaryKey()", err, "")
	Diff(t, "PrimaryKey()", got, want)

	for what, c := range map[string]struct {
		want fault.Code
		do   func() error
	}{
		"a taken name":       {fault.Exists, func() error { _, err := w.CreatePrimaryKey(t.Context(), "shared", ""); return err }},
		"a malformed name":   {fault.Invalid, func() error { _, err := w.CreatePrimaryKey(t.Context(), "a b", ""); return err }},
		"a control":          {fault.Invalid, func() error { _, err := w.CreatePrimaryKey(t.Context(), "new", "a\x00"); return err }},
		"rotating no key":    {fault.NotFound, func() error { _, err := w.RotatePrimaryKey(t.Context(), "nope"); return err }},
		"enabling no key":    {fault.NotFound, func() error { _, err := w.EnablePrimaryKey(t.Context(), "nope", 0); return err }},
		"disabling no key":   {fault.NotFound, func() error { _, err := w.DisablePrimaryKey(t.Context(), "nope", 0, ""); return err }},
		"reading no key":     {fault.NotFound, func() error { _, err := w.PrimaryKey(t.Context(), "nope"); return err }},
		"another spelling":   {fault.NotFound, func() error { _, err := w.PrimaryKey(t.Context(), "Shared"); return err }},
		"enabling version 3": {fault.NotFound, func() error { _, err := w.EnablePrimaryKey(t.Context(), "shared", 3); return err }},
	} {
		w.unchanged(t, what, c.want, c.do)
	}
}

func testDisablePrimaryKey(t *testing.T, w *world) {
	w.dataset(t, "files")
	s := w.active(t, "web-01", withDatasets("files"))
	if _, err := w.RotatePrimaryKey(t.Context(), "files"); err != nil {
		t.Fatal(err)
	}
	disable := func(version uint32, code string) error {
		_, err := w.DisablePrimaryKey(t.Context(), "files", version, code)
		return err
	}
	reason := func() keys.Reason {
		q := s.current.Question()
		q.Dataset = "files"
		v, err := w.Verify(t.Context(), q)
		WantCode(t, "Verify()", err, "")
		return v.Reason
	}
	w.unchanged(t, "disabling before an enrolment", fault.OTPNotEnrolled, func() error { return disable(0, "") })
	code := w.code(t)
	for what, c := range map[string]struct {
		version uint32
		code    string
		want    fault.Code
	}{
		"disabling the newest version": {2, code, fault.Invalid},
		"disabling version 3":          {3, code, fault.NotFound},
		"disabling version 2^32 - 1":   {1<<32 - 1, code, fault.NotFound},
		"disabling without a code":     {0, "", fault.OTPRequired},
	} {
		w.unchanged(t, what, c.want, func() error { return disable(c.version, c.code) })
	}
	WantCode(t, "disabling with a wrong code", disable(0, w.auth.Wrong()), fault.OTPWrong)
	if got := reason(); got != keys.ReasonOK {
		t.Errorf("after refusals the verdict is %q", got)
	}

	// One version, then the whole; each repeat is a no-op that asks for nothing.
	for _, version := range []uint32{1, 0} {
		WantCode(t, "DisablePrimaryKey()", disable(version, w.code(t)), "")
		before := w.head(t).Seq
		WantCode(t, "DisablePrimaryKey() again", disable(version, ""), "")
		wantNoOp(t, w, before, "primary-keys.disable")
	}
	k, err := w.PrimaryKey(t.Context(), "files")
	if err != nil || k.State != keys.PrimaryKeyDisabled || k.Versions[0].State != keys.PrimaryKeyDisabled || k.Versions[1].State != keys.PrimaryKeyEnabled {
		t.Errorf("the disabled Primary Key is %+v, %v", k, err)
	}
	if got := reason(); got != keys.ReasonPrimaryKeyDisabled {
		t.Errorf("under a disabled Primary Key the verdict is %q", got)
	}
	w.unchanged(t, "rotating a disabled Primary Key", fault.KeyDisabled, func() error { _, err := w.RotatePrimaryKey(t.Context(), "files"); return err })
	for _, version := range []uint32{0, 1} { // no code: nobody is kept out by an enable
		_, err := w.EnablePrimaryKey(t.Context(), "files", version)
		WantCode(t, "EnablePrimaryKey()", err, "")
		before := w.head(t).Seq
		k, err = w.EnablePrimaryKey(t.Context(), "files", version)
		WantCode(t, "EnablePrimaryKey() again", err, "")
		wantNoOp(t, w, before, "primary-keys.enable")
	}
	if k.State != keys.PrimaryKeyEnabled || k.Versions[0].State != keys.PrimaryKeyEnabled || reason() != keys.ReasonOK {
		t.Errorf("the enabled Primary Key is %+v, and the verdict %q", k, reason())
	}
}

func testEnrollOTP(t *testing.T, w *world) {
	status := func() keys.OTPStatus {
		t.Helper()
		s, err := w.OTPStatus(t.Context())
		WantCode(t, "OTPStatus()", err, "")
		return s
	}
	confirm := func(code string) ([]credential.Secret, error) { return w.ConfirmOTP(t.Context(), code) }
	Diff(t, "OTPStatus() at first", status(), keys.OTPStatus{Operator: "alex"})
	_, err := confirm("123456")
	WantCode(t, "ConfirmOTP() of nothing", err, fault.NotFound)
	WantCode(t, "ResetOTP() of nothing", w.ResetOTP(t.Context(), keys.OTPAuthority{Code: "123456"}), fault.NotFound)

	enrollment, err := w.EnrollOTP(t.Context())
	WantCode(t, "EnrollOTP()", err, "")
	if uri := enrollment.URI.Reveal(); !strings.HasPrefix(uri, "otpauth://totp/keyctl:alex?secret="+enrollment.Secret.Reveal()+"&") {
		t.Errorf("the enrolment's URI does not name the operator and the seed")
	}
	replaced := BeginEnrolment(t, w, w.clock)
	w.auth = BeginEnrolment(t, w, w.clock) // an unconfirmed one is replaced
	Diff(t, "OTPStatus() before the first code", status(), keys.OTPStatus{Operator: "alex", Unconfirmed: true})
	_, err = confirm("")
	WantCode(t, "ConfirmOTP() without a code", err, fault.OTPRequired)
	_, err = confirm(replaced.Next())
	WantCode(t, "ConfirmOTP() with a code of the replaced seed", err, fault.OTPWrong)
	codes, err := confirm(w.auth.Next())
	WantCode(t, "ConfirmOTP()", err, "")
	if len(codes) != 8 {
		t.Errorf("ConfirmOTP() = %d recovery codes, want 8", len(codes))
	}
	Diff(t, "OTPStatus() after the first code", status(), keys.OTPStatus{
		Operator: "alex", Enrolled: true, EnrolledAt: ptr(w.now()), RecoveryCodesLeft: 8,
	})
	_, err = confirm(w.auth.Next())
	WantCode(t, "ConfirmOTP() again", err, fault.Exists)
	_, err = w.EnrollOTP(t.Context())
	WantCode(t, "EnrollOTP() again", err, fault.Exists)
}

func testRecoveryCodes(t *testing.T, w *world) {
	w.auth = BeginEnrolment(t, w, w.clock)
	first, err := w.ConfirmOTP(t.Context(), w.auth.Next())
	WantCode(t, "ConfirmOTP()", err, "")
	_, err = w.NewRecoveryCodes(t.Context(), "")
	WantCode(t, "NewRecoveryCodes() without a code", err, fault.OTPRequired)
	codes, err := w.NewRecoveryCodes(t.Context(), w.code(t))
	if err != nil || len(codes) != 8 {
		t.Fatalf("NewRecoveryCodes() = %d codes, %v", len(codes), err)
	}
	reset := func(code string) error {
		return w.ResetOTP(t.Context(), keys.OTPAuthority{RecoveryCode: credential.NewSecret(code)})
	}
	WantCode(t, "ResetOTP() with a replaced code", reset(first[0].Reveal()), fault.OTPWrong)
	WantCode(t, "ResetOTP() with a made up code", reset(strings.Repeat("A", 24)), fault.OTPWrong)
	w.unchanged(t, "ResetOTP() with what is no code", fault.OTPWrong, func() error { return reset("ABCD") })
	// It works while guesses have locked the second factor, and however it is typed.
	w.lock(t)
	WantCode(t, "ResetOTP()", reset(strings.ToLower(strings.ReplaceAll(codes[3].Reveal(), "-", " "))), "")
	status, err := w.OTPStatus(t.Context())
	WantCode(t, "OTPStatus()", err, "")
	Diff(t, "OTPStatus() after the reset", status, keys.OTPStatus{Operator: "alex"})
	WantCode(t, "ResetOTP() again", reset(codes[4].Reveal()), fault.NotFound)
	// The codes of the old enrolment are gone with it.
	w.auth = Enroll(t, w, w.clock)
	WantCode(t, "ResetOTP() with a code of the old enrolment", reset(codes[4].Reveal()), fault.OTPWrong)
}

// lock spends wrong codes until the second factor is locked.
func (w *world) lock(t testing.TB) {
	t.Helper()
	for range 5 {
		_, err := w.NewRecoveryCodes(t.Context(), w.auth.Wrong())
		WantCode(t, "a wrong code", err, fault.OTPWrong)
	}
	_, err := w.NewRecoveryCodes(t.Context(), w.auth.Next())
	WantCode(t, "the right code while locked", err, fault.OTPLocked)
}

func testOTPCodes(t *testing.T, w *world) {
	s := w.active(t, "web-01")
	d, p := Draw(t), keys.Pending{}
	w.code(t)
	w.lock(t)
	status, err := w.OTPStatus(t.Context())
	if err != nil || status.Failures != 5 || status.LockedUntil == nil || status.Disabled {
		t.Errorf("OTPStatus() while locked = %+v, %v", status, err)
	}
	// The brakes work meanwhile.
	for what, brake := range map[string]func() error{
		"DisableKey": func() error { _, err := w.DisableKey(t.Context(), s.id, false); return err },
		"DeleteKey":  func() error { _, err := w.DeleteKey(t.Context(), w.active(t, "web-02").id); return err },
	} {
		WantCode(t, what+" while locked", brake(), "")
	}
	if _, err := w.EnableKey(t.Context(), s.id); err != nil {
		t.Fatal(err)
	}
	w.clock.Set(status.LockedUntil.Add(-time.Microsecond))
	r := keys.RollRequest{Key: s.id, Terms: grace(day), Offer: d.Offer}
	r.Code = w.auth.At(w.now())
	_, err = w.Roll(t.Context(), r)
	WantCode(t, "Roll before the lock's end", err, fault.OTPLocked)
	w.clock.Set(*status.LockedUntil)
	r.Code = w.auth.At(w.now())
	p, err = w.Roll(t.Context(), r)
	WantCode(t, "Roll at the lock's end", err, "")
	w.prove(t, d, p)
	w.lock(t)
	if _, err := w.FinishRoll(t.Context(), s.id); err != nil {
		t.Errorf("FinishRoll() while locked = %v", err)
	}
}

func testResetByCode(t *testing.T, w *world) {
	w.code(t)
	w.unchanged(t, "ResetOTP() without any authority", fault.OTPRequired, func() error { return w.ResetOTP(t.Context(), keys.OTPAuthority{}) })
	WantCode(t, "ResetOTP() with a wrong code", w.ResetOTP(t.Context(), keys.OTPAuthority{Code: w.auth.Wrong()}), fault.OTPWrong)
	code := w.code(t)
	WantCode(t, "ResetOTP()", w.ResetOTP(t.Context(), keys.OTPAuthority{Code: code}), "")
	_, err := w.NewRecoveryCodes(t.Context(), w.auth.Next())
	WantCode(t, "a code after the reset", err, fault.OTPNotEnrolled)
}
