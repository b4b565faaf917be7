package dev.toolkit.trainer.template

import dev.toolkit.trainer.R
import dev.toolkit.trainer.Words

/** A template that this app cannot render as Jinja does, or that refuses the messages: why, and which word of the template it is about. */
class TemplateError(why: Int, word: String) : Exception(Words.of(why, word))

/** What a template is made of: a text between tags, or a tag's words. */
internal class Chunk(val text: String, val words: List<Word>?, val isBlock: Boolean)

/** A word of an expression: "name", "string", "number", "operator" or "end". */
internal class Word(val kind: String, val text: String)

/**
 * Cuts a template into texts and tags, white space as `transformers` has it: with trim_blocks and lstrip_blocks, and without the
 * last line end.
 */
internal class JinjaLexer(source: String) {
    private val source = source.replace("\r\n", "\n").removeSuffix("\n")
    private val chunks = ArrayList<Chunk>()
    private var at = 0

    fun chunks(): List<Chunk> {
        var trimLeft = false
        var dropNewline = false
        while (at < source.length) {
            val open = nextTag()
            var text = source.substring(at, open)
            if (trimLeft) text = text.trimStart(::isSpace) else if (dropNewline) text = text.removePrefix("\n")
            if (open == source.length) {
                add(text)
                break
            }
            val kind = source[open + 1]
            val mark = source.getOrElse(open + 2) { ' ' }
            if (mark == '-') text = text.trimEnd(::isSpace)
            else if (kind != '{' && mark != '+') text = withoutIndent(text, open)
            add(text)
            at = open + if (mark == '-' || mark == '+') 3 else 2
            val end = if (kind == '#') comment() else tag(kind == '%')
            trimLeft = end == '-'
            dropNewline = kind != '{' && end != '+'
        }
        return chunks
    }

    private fun add(text: String) {
        if (text.isNotEmpty()) chunks += Chunk(text, null, false)
    }

    private fun nextTag(): Int {
        var open = source.indexOf('{', at)
        while (open >= 0 && (open + 1 >= source.length || source[open + 1] !in "{%#")) open = source.indexOf('{', open + 1)
        return if (open < 0) source.length else open
    }

    /** A tag that stands alone at the beginning of its line takes the spaces before it along. */
    private fun withoutIndent(text: String, open: Int): String {
        val line = source.lastIndexOf('\n', open - 1) + 1
        val begin = maxOf(line, open - text.length)
        val alone = source.substring(begin, open).all(::isSpace) && (begin == line)
        return if (alone) text.dropLast(open - begin) else text
    }

    /** Goes behind the comment; returns the mark before its end. */
    private fun comment(): Char {
        val end = source.indexOf("#}", at)
        if (end < 0) throw TemplateError(R.string.template_broken, "{#")
        at = end + 2
        return source[end - 1]
    }

    private fun tag(block: Boolean): Char {
        val words = ArrayList<Word>()
        val close = if (block) "%}" else "}}"
        var depth = 0
        while (true) {
            while (at < source.length && isSpace(source[at])) at++
            if (at >= source.length) throw TemplateError(R.string.template_broken, if (block) "{%" else "{{")
            val marked = source[at] in "-+" && source.startsWith(close, at + 1)
            if (marked || depth == 0 && source.startsWith(close, at)) {
                val mark = source[at]
                at += if (marked) 3 else 2
                words += Word("end", "")
                chunks += Chunk("", words, block)
                return if (marked) mark else ' '
            }
            val word = word()
            if (word.kind == "operator" && word.text in "([{") depth++
            if (word.kind == "operator" && word.text in ")]}") depth--
            words += word
        }
    }

    private fun word(): Word {
        val c = source[at]
        if (c == '"' || c == '\'') return string(c)
        val begin = at
        if (c.isDigit()) {
            while (at < source.length && (source[at].isDigit() || source[at] == '.' && source.getOrElse(at + 1) { ' ' }.isDigit())) at++
            return Word("number", source.substring(begin, at))
        }
        if (c.isLetter() || c == '_') {
            while (at < source.length && (source[at].isLetterOrDigit() || source[at] == '_')) at++
            return Word("name", source.substring(begin, at))
        }
        val two = source.substring(at, minOf(at + 2, source.length))
        at += if (two in TWO) 2 else 1
        if (two !in TWO && c !in ONE) throw TemplateError(R.string.template_broken, c.toString())
        return Word("operator", if (two in TWO) two else c.toString())
    }

    private fun string(quote: Char): Word {
        val text = StringBuilder()
        at++
        while (true) {
            val c = source.getOrElse(at++) { throw TemplateError(R.string.template_broken, quote.toString()) }
            if (c == quote) return Word("string", text.toString())
            if (c != '\\') {
                text.append(c)
                continue
            }
            when (val escaped = source.getOrElse(at++) { ' ' }) {
                'n' -> text.append('\n')
                't' -> text.append('\t')
                'r' -> text.append('\r')
                'u', 'x' -> {
                    val digits = if (escaped == 'u') 4 else 2
                    text.append(source.substring(at, at + digits).toInt(16).toChar())
                    at += digits
                }
                '\\', '\'', '"' -> text.append(escaped)
                else -> text.append('\\').append(escaped)
            }
        }
    }

    companion object {
        private val TWO = setOf("==", "!=", "<=", ">=", "//", "**")
        private const val ONE = "()[]{}.,:|=<>+-*/%~"

        /** White space as Python's `strip` knows it. */
        fun isSpace(c: Char): Boolean = c.isWhitespace() || c == '\u0085'
    }
}
