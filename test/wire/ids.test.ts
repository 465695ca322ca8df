import test from 'tape'
import { isKVSwarmError } from '../../lib/errors.ts'
import { idBytes, idOf, isNodeId, parseNodeId, readNodeId } from '../../lib/wire/ids.ts'
import { random } from '../helpers/random.ts'

const id = '0123456789abcdef'.repeat(4)

/** z-base-32 as a stream of bits, for comparison. */
function zBase32(bytes: Uint8Array): string {
  const bits = Array.from(bytes, (byte) => byte.toString(2).padStart(8, '0')).join('')
  return (bits + '0000').replaceAll(/.{5}/g, (five) =>
    'ybndrfg8ejkmcpqxot1uwisza345h769'.charAt(Number.parseInt(five, 2))
  )
}

test('a node id is read as hex in any case', (t) => {
  t.equal(parseNodeId(id), id)
  t.equal(parseNodeId(id.toUpperCase()), id)
  t.end()
})

test('a node id is read as z-base-32, as others write it', (t) => {
  t.equal(parseNodeId('y'.repeat(52)), '0'.repeat(64))
  t.equal(parseNodeId(`${'9'.repeat(51)}o`), 'f'.repeat(64))
  t.equal(parseNodeId('yrtwk3hjixg66yjdeiuauk6p7hy1gtm8tgih55abrpnsxnpm3zzo'), id)
  t.equal(parseNodeId('4mjpfws14mjpfws14mjpfws14mjpfws14mjpfws14mjpfws14mjy'), 'd2'.repeat(32))
  const source = random(t)
  let wrong = 0
  for (let i = 0; i < 500; i++) {
    const bytes = source.bytes(32)
    const text = zBase32(bytes)
    if (text.length !== 52 || parseNodeId(text) !== idOf(bytes)) wrong++
  }
  t.equal(wrong, 0)
  t.end()
})

test('what is no node id is refused, by name', (t) => {
  const z = 'y'.repeat(51)
  for (const text of [
    '',
    id.slice(1),
    `${id}0`,
    `${id.slice(1)}g`,
    ` ${id.slice(1)}`,
    `${id}\n`,
    z,
    `${z}yy`,
    `${z}l`,
    `${z}v`,
    `${z}b`, // its last four bits are not zero
    'Y'.repeat(52),
    '__proto__'
  ]) {
    t.equal(readNodeId(text), null, JSON.stringify(text))
    try {
      parseNodeId(text)
      t.fail('refused')
    } catch (error) {
      t.ok(isKVSwarmError(error, 'INVALID_ARGUMENT'))
      t.ok((error as Error).message.includes(JSON.stringify(text)), (error as Error).message)
    }
  }
  for (const value of [null, undefined, 5, {}, [id], Buffer.from(id, 'hex')]) {
    t.equal(readNodeId(value), null)
    t.throws(() => parseNodeId(value as string), /not a node id/)
  }
  t.end()
})

test('bytes and ids go into each other', (t) => {
  const bytes = idBytes(id)
  t.equal(bytes.length, 32)
  t.equal(bytes[1], 0x23)
  t.equal(idOf(bytes), id)
  const inside = new Uint8Array(40)
  inside.set(bytes, 4)
  t.equal(idOf(inside.subarray(4, 36)), id, 'a view of larger memory')
  t.throws(() => idBytes(id.toUpperCase()), /lower-case/)
  t.throws(() => idOf(new Uint8Array(31)), /32 bytes/)
  t.end()
})

test('only the inner form is a node id', (t) => {
  t.ok(isNodeId(id))
  t.notOk(isNodeId(id.toUpperCase()))
  t.notOk(isNodeId('y'.repeat(52)))
  t.notOk(isNodeId(5))
  t.end()
})
