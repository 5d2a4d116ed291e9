package h2

import (
	"encoding/binary"

	"anyedge/internal/hpack"
)

// handleSettings takes the peer's settings (section 6.5).
func (c *conn) handleSettings(f frame) error {
	switch {
	case f.stream != 0:
		return connError{protocolError, "SETTINGS on a stream"}
	case f.has(flagAck) && len(f.payload) > 0, len(f.payload)%6 != 0:
		return connError{frameSizeError, "SETTINGS of a wrong size"}
	case f.has(flagAck):
		return nil
	}
	table, window, err := c.settings(f.payload)
	if err != nil {
		return err
	}
	if window >= 0 { // once, however often it is said
		if err := c.resize(window); err != nil {
			return err
		}
	}
	return c.reply(func(b []byte) []byte {
		if table >= 0 && c.backend == nil { // where we use none
			c.enc.Resize(table)
		}
		return appendHeader(b, 0, typeSettings, flagAck, 0)
	})
}

// settings checks settings, and returns those that change something here; -1 for
// what is not said.
func (c *conn) settings(p []byte) (table int, window int64, err error) {
	table, window = -1, -1
	for ; len(p) > 0; p = p[6:] {
		id, value := binary.BigEndian.Uint16(p), binary.BigEndian.Uint32(p[2:])
		if c.backend != nil {
			if err := c.backend.setting(id, value); err != nil {
				return 0, 0, err
			}
		}
		switch id {
		case settingTableSize:
			table = int(min(value, hpack.DefaultTableSize))
		case settingEnablePush:
			if value > 1 {
				return 0, 0, connError{protocolError, "ENABLE_PUSH is neither 0 nor 1"}
			}
		case settingInitialWindow:
			if value > maxWindow {
				return 0, 0, connError{flowControlError, "INITIAL_WINDOW_SIZE is over 2^31-1"}
			}
			window = int64(value)
		case settingMaxFrame:
			if value < maxFrame || value >= 1<<24 {
				return 0, 0, connError{protocolError, "MAX_FRAME_SIZE is out of bounds"}
			}
		}
	}
	return table, window, nil
}

// resize changes the window of every stream (section 6.9.2).
func (c *conn) resize(window int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	grow := window - c.peerWindow
	c.peerWindow = window
	for _, st := range c.streams {
		if st.sendWindow += grow; st.sendWindow > maxWindow {
			return connError{flowControlError, "a window is over 2^31-1"}
		}
	}
	c.room.Broadcast()
	return nil
}
