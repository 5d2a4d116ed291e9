package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

type peerKey struct{}

// withPeer notes who is on the other end of a connection.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return ctx
	}
	var cred *unix.Ucred
	if err := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil || cred == nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, cred)
}

// adminGroup is the group whose members may change things.
const adminGroup = "edged-admin"

// mayChange returns the caller's name when it may change something: root, the
// user that edged runs as, or a member of the group edged-admin.
func mayChange(ctx context.Context) (string, error) {
	cred, ok := ctx.Value(peerKey{}).(*unix.Ucred)
	if !ok {
		return "", errors.New("the kernel does not say who you are")
	}
	name := fmt.Sprintf("uid %d", cred.Uid)
	u, err := user.LookupId(strconv.FormatUint(uint64(cred.Uid), 10))
	if err == nil {
		name = u.Username
	}
	if cred.Uid == 0 || int(cred.Uid) == os.Geteuid() || inGroup(u, adminGroup) {
		return name, nil
	}
	return "", fmt.Errorf("%s may look but not change: only root and members of group %q may", name, adminGroup)
}

func inGroup(u *user.User, group string) bool {
	if u == nil {
		return false
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return false
	}
	ids, err := u.GroupIds()
	if err != nil {
		return false
	}
	return slices.Contains(ids, g.Gid)
}
