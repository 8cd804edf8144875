// Package keyringtest brings up Secret Services for tests: the real one of GNOME, private and thrown away, on a D-Bus
// session of its own; none at all; and one that misbehaves, written for the purpose. No test touches the keyring of whoever
// runs it.
package keyringtest

// Nowhere is the environment of a machine without a D-Bus session. Without it a test on a desktop would find the one there.
const Nowhere = "DBUS_SESSION_BUS_ADDRESS=unix:path=/nonexistent/bus"
