/**
 * Reads TypeScript far enough to see its comments, its strings and what it imports.
 *
 * TypeScript 7 has no API for programs. This is a scanner, no parser: it knows comments, strings,
 * templates and regular expressions, so that a rule about code is not met by a word in a text.
 */

/** One import, export from, import() or require() of a source. */
export interface Import {
  readonly specifier: string
  /** Erased when compiled: `import type …`, `export type …`. */
  readonly typeOnly: boolean
  /** From 1. */
  readonly line: number
}

/** A source file. */
export interface Source {
  /** From the root, with slashes. */
  readonly path: string
  readonly text: string
  /** `text` with spaces in place of comments and of what is inside quotes; same length, same lines. */
  readonly code: string
  readonly imports: readonly Import[]
}

/** After these a slash begins a regular expression; after a name, a number or a bracket it divides. */
const beforeRegex = /(?:^|[(,=:[!&|?{};+\-*%~^<>]|=>|\b(?:return|typeof|case|in|of|await|yield))$/

function blank(text: string): string {
  return text.replace(/[^\n]/g, ' ')
}

/** End of a quoted string or regular expression that begins at `start` (with its closing mark). */
function endOfQuoted(text: string, start: number): number {
  const mark = text[start]
  let inClass = false
  for (let i = start + 1; i < text.length; i++) {
    const char = text[i]
    if (char === '\\') i++
    else if (char === '\n') return i
    else if (mark === '/' && char === '[') inClass = true
    else if (mark === '/' && char === ']') inClass = false
    else if (char === mark && !inClass) return i + 1
  }
  return text.length
}

/** The text with comments, and what is inside quotes, blanked. */
export function codeOf(text: string): string {
  let code = ''
  /** For each open `${` of a template: how many braces are open inside it. */
  const templates: number[] = []
  let i = 0
  const take = (end: number): void => {
    code += blank(text.slice(i, end))
    i = end
  }
  const takeTemplate = (): void => {
    // from behind ` or } to ` or ${
    let end = i
    while (end < text.length && text[end] !== '`' && !text.startsWith('${', end)) {
      end += text[end] === '\\' ? 2 : 1
    }
    take(Math.min(end, text.length))
    if (text[i] === '`') {
      code += '`'
      i++
    } else if (i < text.length) {
      code += '${'
      i += 2
      templates.push(0)
    }
  }
  while (i < text.length) {
    const char = text[i] as string
    const innermost = templates.length - 1
    if (text.startsWith('//', i) || (i === 0 && text.startsWith('#!'))) {
      const end = text.indexOf('\n', i)
      take(end === -1 ? text.length : end)
    } else if (text.startsWith('/*', i)) {
      const end = text.indexOf('*/', i + 2)
      take(end === -1 ? text.length : end + 2)
    } else if (char === "'" || char === '"') {
      const end = endOfQuoted(text, i)
      code += char + blank(text.slice(i + 1, end - 1)) + text.slice(Math.max(i + 1, end - 1), end)
      i = end
    } else if (char === '/' && beforeRegex.test(code.trimEnd().slice(-20))) {
      const end = endOfQuoted(text, i)
      code += `/${blank(text.slice(i + 1, end - 1))}/`
      i = end
    } else if (char === '`') {
      code += '`'
      i++
      takeTemplate()
    } else if (char === '}' && templates[innermost] === 0) {
      templates.pop()
      code += '}'
      i++
      takeTemplate()
    } else {
      const open = templates[innermost]
      if (open !== undefined && char === '{') templates[innermost] = open + 1
      if (open !== undefined && char === '}') templates[innermost] = open - 1
      code += char
      i++
    }
  }
  return code
}

const clauses = String.raw`(?:[\w$]+\s*,?\s*)?(?:\*(?:\s*as\s+[\w$]+)?\s*|\{[^}]*\}\s*)?from\s*`
const importForms = [
  new RegExp(String.raw`\b(?:import|export)\s+(type\s+(?!from\b))?${clauses}(['"])`, 'g'),
  /\bimport\s*()(['"])/g,
  /\b(?:import|require|require\.resolve|import\.meta\.resolve)\s*\(\s*()(['"])/g
]

/** Line of an offset, from 1. */
export function lineAt(text: string, offset: number): number {
  return text.slice(0, offset).split('\n').length
}

function importsOf(text: string, code: string): Import[] {
  const found: Import[] = []
  for (const form of importForms) {
    for (const match of code.matchAll(form)) {
      const start = match.index + match[0].length
      const end = code.indexOf(match[2] as string, start)
      if (end === -1) continue
      found.push({
        specifier: text.slice(start, end),
        typeOnly: (match[1] ?? '') !== '',
        line: lineAt(text, match.index)
      })
    }
  }
  return found.toSorted((a, b) => a.line - b.line)
}

/** Reads a source. */
export function sourceOf(path: string, text: string): Source {
  const code = codeOf(text)
  return { path, text, code, imports: importsOf(text, code) }
}
