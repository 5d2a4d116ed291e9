package api

import "time"

// Paths of the packet path.
const (
	PathL4      = "/v1/l4"
	PathL4Trace = "/v1/l4/trace" // ?src=ADDRESS:PORT&dst=ADDRESS:PORT&proto=tcp|udp
)

// L4 is the packet path of a node.
type L4 struct {
	On         bool          `json:"on"` // false: the configuration has none
	Node       string        `json:"node"`
	Ring       *L4Ring       `json:"ring"` // null: none is in force
	Interfaces []L4Interface `json:"interfaces"`
	Pins       string        `json:"pins,omitempty"`     // the directory that programs are pinned in; they outlive the process
	Unpinned   string        `json:"unpinned,omitempty"` // why they are not
	Strays     L4Strays      `json:"strays"`
	Counters   []L4Count     `json:"counters"` // over all interfaces, since the program was loaded
}

// An L4Ring says who owns which share of the connections.
type L4Ring struct {
	Generation uint64     `json:"generation"`
	Phase      string     `json:"phase"` // stable | prepare | drain
	Reason     string     `json:"reason"`
	Members    []L4Member `json:"members"`
}

// An L4Member is one node of a ring.
type L4Member struct {
	Node    string `json:"node"`
	Weight  uint32 `json:"weight"`
	Buckets int    `json:"buckets"` // owned, as this node's packet path has it
	Other   bool   `json:"other"`   // in the ring before, or the one to come
	Gone    bool   `json:"gone"`    // dead: nothing is sent there
	Follows uint64 `json:"follows"` // the generation that the node says it follows
}

// L4Strays says where connections are looked for that nobody in this geo has.
type L4Strays struct {
	On      bool      `json:"on"`                // l4.strays is not off
	Refused string    `json:"refused,omitempty"` // why other geos do not look here
	VIPs    []L4Stray `json:"vips"`              // those with somewhere to look
}

// An L4Stray says where connections to a VIP are looked for.
type L4Stray struct {
	VIP    string     `json:"vip"`
	Geo    string     `json:"geo"`
	Node   string     `json:"node"`
	Reason string     `json:"reason"`
	Until  *time.Time `json:"until"` // null: as long as the reason holds
}

// An L4Interface is where the program is, or why it is not.
type L4Interface struct {
	Name    string  `json:"name"`
	Mode    string  `json:"mode"`              // native | generic | "": not attached
	Program string  `json:"program,omitempty"` // name/number/tag, as in bpftool
	Pinned  bool    `json:"pinned"`
	Adopted bool    `json:"adopted"` // it follows what the process before knew, until the first ring is known
	Error   string  `json:"error,omitempty"`
	Address string  `json:"address,omitempty"`
	Follows uint64  `json:"follows"` // the ring's generation
	Flooded bool    `json:"flooded"` // so many packets were for no connection that none is looked for elsewhere
	Ways    []L4Way `json:"ways"`
}

// An L4Way is how packets reach another node.
type L4Way struct {
	Node string `json:"node"`
	Mode string `json:"mode"` // l2 | ipip | "": none is known
	Text string `json:"text"`
}

// An L4Count counts packets of one kind.
type L4Count struct {
	Kind    string `json:"kind"` // server | vip | reason
	Name    string `json:"name"`
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"` // IP lengths
}

// An L4Trace says where a flow's packets go that a router hands to this node.
type L4Trace struct {
	VIP    bool   `json:"vip"` // the destination is one; the rest is about these alone
	Bucket uint16 `json:"bucket"`
	Owner  string `json:"owner"`  // "": no ring is in force
	Other  string `json:"other"`  // during a change: who may have the connection as well
	Way    *L4Way `json:"way"`    // to the owner; null: it is this node
	Abroad *L4Way `json:"abroad"` // to where the connection is looked for that nobody here has; null: nowhere
}
