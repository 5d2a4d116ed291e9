package wire

import (
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The sockets here never block, so that their calls need not tell the scheduler
// that they might: RawSyscall. Each takes as long as the kernel copies and, on
// loopback, delivers.

var past = time.Unix(1, 0)

// countUnread has the kernel say with each read what is left, and reports whether
// it does.
func countUnread(fd uintptr) bool {
	return unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_INQ, 1) == nil
}

// control is the room for one control message with an int32.
const control = unix.SizeofCmsghdr + 8

// recv reads what is there: at most len(p) bytes; 0 is the end. more says whether
// more is there, bytes or the end, if countUnread was called.
func recv(fd uintptr, p []byte) (n int, more bool, errno syscall.Errno) {
	var (
		word [control / 8]uint64
		iov  = unix.Iovec{Base: unsafe.SliceData(p), Len: uint64(len(p))}                                      //nolint:gosec // the kernel writes len(p) bytes at most
		msg  = unix.Msghdr{Iov: &iov, Iovlen: 1, Control: (*byte)(unsafe.Pointer(&word)), Controllen: control} //nolint:gosec // and control here
	)
	for {
		r, _, e := syscall.RawSyscall(unix.SYS_RECVMSG, fd, uintptr(unsafe.Pointer(&msg)), unix.MSG_DONTWAIT) //nolint:gosec // the kernel's struct
		switch {
		case e == syscall.EINTR:
			continue
		case e != 0:
			return 0, false, e
		case msg.Controllen < unix.SizeofCmsghdr+4:
			return int(r), true, 0
		}
		left := *(*int32)(unsafe.Pointer(&word[unix.SizeofCmsghdr/8])) //nolint:gosec // CMSG_DATA
		return int(r), left != 0 || r == 0, 0
	}
}

// send writes what there is room for.
func send(fd uintptr, p []byte) (int, syscall.Errno) {
	for {
		r, _, e := syscall.RawSyscall6(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0) //nolint:gosec // the kernel's pointer
		if e == 0 {
			return int(r), 0
		}
		if e != syscall.EINTR {
			return 0, e
		}
	}
}
