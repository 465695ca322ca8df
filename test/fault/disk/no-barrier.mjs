/**
 * Loaded before the program (NODE_OPTIONS): the durability barrier's syncs of the store's log do nothing, so
 * that a test can show that they are missed. High-water marks are written and synced as ever.
 */
import { open } from 'node:fs/promises'

const handle = await open('/dev/null')
Object.getPrototypeOf(handle).datasync = () => Promise.resolve()
await handle.close()
