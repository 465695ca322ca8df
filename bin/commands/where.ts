/** `kvswarm where`: prints which storage node owns a key. */
import type { CommandModule } from '../context.ts'
import { exitCodes } from '../exit-codes.ts'
import { configPathOf, readConfig } from '../store.ts'

export const where: CommandModule = {
  define: (command) =>
    command
      .summary('print which storage node owns a key')
      .description(
        'Prints the storage node that owns a key, its share of all keys, and the address of the key with the slice it lies in (hex). Needs the configuration alone: no data directory, no network.'
      )
      .argument('<key>', 'a string')
      .addHelpText('after', '\nExample:\n  kvswarm -c config.json where cool'),
  run: async (context, [key]) => {
    const { print } = context
    const config = await readConfig(configPathOf(context))
    const name = key as string
    const owner = config.ownerOf(name)
    const address = config.addressOf(name)
    const slice = config.slices.find(({ start, end }) => start <= address && address < end)
    if (slice === undefined) throw new Error('the slices do not cover the address')
    const total = config.slices.at(-1)?.end ?? 1n
    const share = Number(config.shareOf(owner)) / Number(total)
    const [at, start, end] = [address, slice.start, slice.end].map((point) =>
      point.toString(16).padStart(14, '0')
    )
    if (print.options.json) {
      await print.json({ key: name, owner, share, address: at, slice: { start, end } })
    } else {
      await print.line(`owner    ${owner}`)
      await print.line(`share    ${(share * 100).toFixed(2)} %`)
      await print.line(`address  ${at}`)
      await print.line(`slice    ${start} to ${end}`)
    }
    return exitCodes.done
  }
}
