package dev.toolkit.trainer.template

import dev.toolkit.trainer.R

/** A part of a template or an expression: what it is, its word, and what it is made of. */
internal class Node(val kind: String, val text: String = "", val parts: List<Node> = emptyList(), val value: Any? = null)

/** Reads a template into nodes; what is not known is refused when it is read. */
internal class JinjaParser(source: String) {
    private val chunks = JinjaLexer(source).chunks()
    private var chunk = 0
    private var words = emptyList<Word>()
    private var at = 0

    fun parse(): Node = body().also { if (chunk < chunks.size) unknown() }

    /** Up to the tag that ends it, which is left with its words begun. */
    private fun body(vararg ends: String): Node {
        val parts = ArrayList<Node>()
        while (chunk < chunks.size) {
            val next = chunks[chunk]
            if (next.words == null) {
                parts += Node("text", next.text)
                chunk++
                continue
            }
            words = next.words
            at = 0
            if (!next.isBlock) {
                parts += expression()
                close()
                continue
            }
            if (peek().text in ends) return Node("body", "", parts)
            parts += statement()
        }
        if (ends.isNotEmpty()) throw TemplateError(R.string.template_broken, ends.last())
        return Node("body", "", parts)
    }

    private fun statement(): Node = when (take().text) {
        "for" -> forLoop()
        "if" -> ifElse()
        "set" -> set()
        "macro" -> macro()
        "generation" -> {
            close()
            Node("generation", "", listOf(body("endgeneration"))).also { end("endgeneration") }
        }
        "break", "continue" -> Node(words[at - 1].text).also { close() }
        else -> throw TemplateError(R.string.template_unknown, words[at - 1].text)
    }

    private fun forLoop(): Node {
        val targets = targets()
        need("in")
        val list = or()
        val filter = if (accept("if")) expression() else Node("constant", value = true)
        close()
        val body = body("else", "endfor")
        val other = if (accept("else")) {
            close()
            body("endfor")
        } else {
            Node("body")
        }
        end("endfor")
        return Node("for", "", listOf(list, filter, body, other) + targets)
    }

    private fun targets(): List<Node> {
        val targets = ArrayList<Node>()
        val wrapped = accept("(")
        do targets += Node("name", name()) while (accept(","))
        if (wrapped) need(")")
        return targets
    }

    private fun ifElse(): Node {
        val test = expression()
        close()
        val then = body("elif", "else", "endif")
        val other = when (take().text) {
            "elif" -> return Node("if", "", listOf(test, then, ifElse()))
            "else" -> {
                close()
                body("endif").also { take() }
            }
            else -> Node("body")
        }
        close()
        return Node("if", "", listOf(test, then, other))
    }

    private fun set(): Node {
        val first = name()
        if (accept(".")) {
            val field = name()
            need("=")
            return Node("set-field", field, listOf(Node("name", first), expression())).also { close() }
        }
        val more = ArrayList<Node>().apply { add(Node("name", first)) }
        while (accept(",")) more += Node("name", name())
        if (accept("=")) return Node("set", "", listOf(tuple()) + more).also { close() }
        close()
        return Node("set", "", listOf(Node("block", "", listOf(body("endset")))) + more).also { end("endset") }
    }

    private fun macro(): Node {
        val name = name()
        need("(")
        val parts = ArrayList<Node>()
        while (!accept(")")) {
            val parameter = name()
            parts += Node("parameter", parameter, if (accept("=")) listOf(expression()) else emptyList())
            accept(",")
        }
        close()
        val body = body("endmacro")
        end("endmacro")
        return Node("macro", name, listOf(body) + parts)
    }

    private fun tuple(): Node {
        val first = expression()
        if (peek().text != ",") return first
        val all = arrayListOf(first)
        while (accept(",")) all += expression()
        return Node("list", "", all)
    }

    private fun expression(): Node {
        val value = or()
        if (!accept("if")) return value
        val test = or()
        return Node("choice", "", listOf(test, value, if (accept("else")) expression() else Node("undefined")))
    }

    private fun or(): Node {
        var left = and()
        while (accept("or")) left = Node("or", "", listOf(left, and()))
        return left
    }

    private fun and(): Node {
        var left = not()
        while (accept("and")) left = Node("and", "", listOf(left, not()))
        return left
    }

    private fun not(): Node = if (accept("not")) Node("not", "", listOf(not())) else comparison()

    private fun comparison(): Node {
        var left = binary(0)
        while (true) {
            val word = peek()
            left = when {
                word.kind == "operator" && word.text in COMPARISONS -> Node("binary", take().text, listOf(left, binary(0)))
                accept("in") -> Node("binary", "in", listOf(left, binary(0)))
                word.text == "not" && words[at + 1].text == "in" -> {
                    at += 2
                    Node("not", "", listOf(Node("binary", "in", listOf(left, binary(0)))))
                }
                else -> return left
            }
        }
    }

    private fun binary(level: Int): Node {
        if (level == BINARY.size) return unary(true)
        var left = binary(level + 1)
        while (peek().kind == "operator" && peek().text in BINARY[level]) left = Node("binary", take().text, listOf(left, binary(level + 1)))
        return left
    }

    private fun unary(filters: Boolean): Node {
        var node = if (accept("-")) Node("negative", "", listOf(unary(false))) else postfix(primary())
        while (filters) {
            node = when {
                accept("|") -> Node("filter", name(), listOf(node) + if (accept("(")) arguments() else emptyList())
                accept("is") -> {
                    val negated = accept("not")
                    val test = Node("test", take().text, listOf(node) + testArgument())
                    if (negated) Node("not", "", listOf(test)) else test
                }
                else -> return node
            }
        }
        return node
    }

    private fun testArgument(): List<Node> = when {
        accept("(") -> arguments()
        peek().kind in listOf("string", "number") || peek().kind == "name" && peek().text !in WORDS -> listOf(unary(false))
        else -> emptyList()
    }

    private fun postfix(start: Node): Node {
        var node = start
        while (true) {
            node = when {
                accept(".") -> Node("field", take().text, listOf(node))
                accept("(") -> Node("call", "", listOf(node) + arguments())
                accept("[") -> subscript(node)
                else -> return node
            }
        }
    }

    private fun subscript(of: Node): Node {
        val bounds = ArrayList<Node>()
        var slice = false
        var waiting = true
        while (!accept("]")) {
            if (accept(":")) {
                slice = true
                if (waiting) bounds += Node("constant")
                waiting = true
            } else {
                bounds += expression()
                waiting = false
            }
        }
        return if (slice) Node("slice", "", listOf(of) + bounds) else Node("item", "", listOf(of, bounds.single()))
    }

    private fun arguments(): List<Node> {
        val all = ArrayList<Node>()
        while (!accept(")")) {
            val named = peek().kind == "name" && words[at + 1].text == "="
            if (named) {
                val name = name()
                need("=")
                all += Node("named", name, listOf(expression()))
            } else {
                all += expression()
            }
            accept(",")
        }
        return all
    }

    private fun primary(): Node {
        val word = take()
        return when {
            word.kind == "string" -> {
                var text = word.text
                while (peek().kind == "string") text += take().text
                Node("constant", value = text)
            }
            word.kind == "number" -> Node("constant", value = word.text.toLongOrNull() ?: word.text.toDouble())
            word.kind == "name" -> if (word.text in CONSTANTS) Node("constant", value = CONSTANTS[word.text]) else Node("name", word.text)
            word.text == "(" -> tuple().also { need(")") }
            word.text == "[" -> Node("list", "", items("]"))
            word.text == "{" -> Node("map", "", items("}"))
            else -> unknown()
        }
    }

    /** Of a list, or names and values of a map in turn. */
    private fun items(end: String): List<Node> {
        val all = ArrayList<Node>()
        while (!accept(end)) {
            all += expression()
            if (!accept(",")) accept(":")
        }
        return all
    }

    private fun peek() = words[at]

    private fun take() = words[at].also { if (it.kind != "end") at++ }

    private fun accept(text: String): Boolean {
        val word = words[at]
        if (word.text != text || word.kind == "string" || word.kind == "end") return false
        at++
        return true
    }

    private fun need(text: String) {
        if (!accept(text)) unknown()
    }

    private fun name(): String = take().also { if (it.kind != "name") unknown() }.text

    private fun end(word: String) {
        need(word)
        close()
    }

    private fun close() {
        if (peek().kind != "end") unknown()
        chunk++
    }

    /** At the word that is not expected, or at the last one where there is none. */
    private fun unknown(): Nothing =
        throw TemplateError(R.string.template_broken, words.getOrNull(at)?.text.orEmpty().ifEmpty { words.getOrNull(at - 1)?.text.orEmpty() })

    private companion object {
        val COMPARISONS = setOf("==", "!=", "<", ">", "<=", ">=")
        val BINARY = listOf(setOf("+", "-"), setOf("~"), setOf("*", "/", "//", "%"))
        val WORDS = setOf("and", "or", "not", "in", "is", "if", "else")
        val CONSTANTS = mapOf("true" to true, "True" to true, "false" to false, "False" to false, "none" to null, "None" to null)
    }
}
