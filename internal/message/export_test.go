package message

// Poison reports whether ended arenas are overwritten.
const Poison = poison
