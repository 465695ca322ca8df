import test from 'tape'
import { readSlices, writeSlices } from '../../config/slices-text.ts'
import { SPACE } from '../../lib/slices/space.ts'
import { random } from '../helpers/random.ts'

test('slices as text', (t) => {
  for (const [slices, text] of [
    [[], ''],
    [[{ start: 0, end: SPACE }], '0+W00000000'],
    [[{ start: SPACE - 1, end: SPACE }], 'V________+1'],
    [
      [
        { start: 0, end: 1 },
        { start: 63, end: 127 },
        { start: 4096, end: 4158 }
      ],
      '0+1 _+10 100+-'
    ]
  ] as const) {
    t.equal(writeSlices(slices), text)
    t.deepEqual(readSlices(text), slices)
  }
  t.end()
})

test('every slice survives, in at most 20 bytes with its space', (t) => {
  const source = random(t)
  let wrong = 0
  for (let i = 0; i < 5000; i++) {
    const start = Math.floor(source.next() * 2 ** source.int(0, 53))
    const length = Math.min(SPACE - start, 1 + Math.floor(source.next() * 2 ** source.int(0, 53)))
    const slices = [{ start, end: start + length }]
    const text = writeSlices(slices)
    const [read] = readSlices(text) ?? []
    if (text.length > 19 || read?.start !== start || read.end !== start + length) wrong++
  }
  t.equal(wrong, 0)
  t.end()
})

test('text that writeSlices() never makes is refused', (t) => {
  for (const text of [
    ' ',
    '0',
    '+1',
    '0+',
    '0+0',
    '00+1',
    '0+01',
    '0+1 ',
    ' 0+1',
    '0+1  2+1',
    '0+1\n2+1',
    '0 1',
    '0-1',
    '0+W00000001',
    '0+W0000000g',
    '1+W00000000',
    'W00000000+1',
    'V________+2',
    '0+__________',
    '_________+_________',
    '0+é'
  ]) {
    t.equal(readSlices(text), null, JSON.stringify(text))
  }
  t.end()
})
