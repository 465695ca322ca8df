/** Blocks of an index written by hand, in hyperbee's format, so that they can say what hyperbee never would. */

/** One tree node: keys by block, children by block and place. */
export interface TreeNode {
  readonly keys: readonly number[]
  readonly children?: readonly (readonly [block: number, place: number])[]
}

function varint(value: number): Buffer {
  const bytes: number[] = []
  let left = value
  while (left >= 0x80) {
    bytes.push((left % 0x80) | 0x80)
    left = Math.floor(left / 0x80)
  }
  bytes.push(left)
  return Buffer.from(bytes)
}

function field(tag: number, content: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from([tag]), varint(content.length), content])
}

/** The first block of every index. */
export const header: Buffer = field(0x0a, Buffer.from('hyperbee'))

export function treeNode({ keys, children = [] }: TreeNode): Buffer {
  const parts: Buffer[] = []
  if (keys.length > 0) parts.push(field(0x0a, Buffer.concat(keys.map(varint))))
  if (children.length > 0) parts.push(field(0x12, Buffer.concat(children.flat().map(varint))))
  return field(0x0a, Buffer.concat(parts))
}

/** A block with an entry and tree nodes, or with any bytes where those should be. */
export function treeBlock(
  key: Uint8Array,
  value: Uint8Array | null,
  nodes: readonly TreeNode[] | Uint8Array
): Buffer {
  const index = nodes instanceof Uint8Array ? nodes : Buffer.concat(nodes.map(treeNode))
  const parts = [field(0x0a, index), field(0x12, key)]
  if (value !== null) parts.push(field(0x1a, value))
  return Buffer.concat(parts)
}
