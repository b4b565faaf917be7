package dev.toolkit.trainer.template

import dev.toolkit.trainer.R

/** A template of Jinja, in the part of the language that chat templates are written in. */
class Jinja(source: String) {
    private val root = JinjaParser(source).parse()

    /**
     * Renders it. Values are texts, Long, Double, Boolean, null, lists and maps.
     *
     * @param spans told where the text inside of each `{% generation %}` block begins and ends
     * @throws TemplateError the template refuses the values, or does something that is not known
     */
    fun render(values: Map<String, Any?>, spans: (Int, Int) -> Unit = { _, _ -> }): String = Rendering(spans).run(root, values)
}

/** What has no value. */
internal object Undefined

/** Names and what they stand for; what is set within a loop is forgotten behind it. */
private class Scope(val outer: Scope?) {
    val own = HashMap<String, Any?>()

    fun find(name: String): Any? = if (own.containsKey(name)) own[name] else if (outer != null) outer.find(name) else Undefined
}

/** What is called with values, some of them by name. */
private fun interface Callable {
    fun call(given: List<Any?>, named: Map<String, Any?>): Any?
}

/** What a template may change from within a loop. */
private class Namespace : LinkedHashMap<String, Any?>()

private class Rendering(private val spans: (Int, Int) -> Unit) {
    private class Leave(val kind: String) : RuntimeException(kind, null, false, false)

    private var out = StringBuilder()

    fun run(root: Node, values: Map<String, Any?>): String {
        val scope = Scope(null)
        scope.own.putAll(BUILTINS)
        scope.own.putAll(values)
        execute(root, scope)
        return out.toString()
    }

    private fun execute(node: Node, scope: Scope) {
        when (node.kind) {
            "text" -> out.append(node.text)
            "body" -> node.parts.forEach { execute(it, scope) }
            "if" -> execute(node.parts[if (Values.isTrue(value(node.parts[0], scope))) 1 else 2], scope)
            "for" -> loop(node, scope)
            "set" -> assign(node.parts.drop(1), value(node.parts[0], scope), scope)
            "set-field" -> {
                val space = value(node.parts[0], scope) as? Namespace ?: throw TemplateError(R.string.template_unknown, "set ….${node.text}")
                space[node.text] = value(node.parts[1], scope)
            }
            "macro" -> scope.own[node.text] = macro(node, scope)
            "generation" -> {
                val begin = out.length
                execute(node.parts[0], Scope(scope))
                spans(begin, out.length)
            }
            "break", "continue" -> throw Leave(node.kind)
            else -> out.append(Values.text(value(node, scope)))
        }
    }

    private fun loop(node: Node, scope: Scope) {
        val targets = node.parts.drop(4)
        val all = Values.list(value(node.parts[0], scope)).filter { item ->
            val own = Scope(scope).also { assign(targets, item, it) }
            Values.isTrue(value(node.parts[1], own))
        }
        if (all.isEmpty()) execute(node.parts[3], scope)
        for ((index, item) in all.withIndex()) {
            val own = Scope(scope)
            assign(targets, item, own)
            own.own["loop"] = mapOf(
                "index" to index + 1L, "index0" to index.toLong(), "revindex" to (all.size - index).toLong(),
                "revindex0" to all.size - index - 1L, "first" to (index == 0), "last" to (index == all.size - 1), "length" to all.size.toLong(),
                "previtem" to all.getOrElse(index - 1) { Undefined }, "nextitem" to all.getOrElse(index + 1) { Undefined },
            )
            try {
                execute(node.parts[2], own)
            } catch (leave: Leave) {
                if (leave.kind == "break") break
            }
        }
    }

    private fun assign(targets: List<Node>, value: Any?, scope: Scope) {
        if (targets.size == 1) scope.own[targets[0].text] = value
        else for ((target, part) in targets.zip(Values.list(value))) scope.own[target.text] = part
    }

    private fun macro(node: Node, scope: Scope) = Callable { given, named ->
        val own = Scope(scope)
        for ((index, parameter) in node.parts.drop(1).withIndex()) {
            own.own[parameter.text] = when {
                index < given.size -> given[index]
                parameter.text in named -> named[parameter.text]
                parameter.parts.isEmpty() -> Undefined
                else -> value(parameter.parts[0], own)
            }
        }
        captured { execute(node.parts[0], own) }
    }

    private fun captured(write: () -> Unit): String {
        val before = out
        out = StringBuilder()
        try {
            write()
            return out.toString()
        } finally {
            out = before
        }
    }

    private fun value(node: Node, scope: Scope): Any? {
        fun part(index: Int) = value(node.parts[index], scope)
        return when (node.kind) {
            "constant" -> node.value
            "undefined" -> Undefined
            "name" -> scope.find(node.text)
            "list" -> node.parts.map { value(it, scope) }
            "map" -> node.parts.indices.step(2).associate { part(it).toString() to part(it + 1) }
            "choice" -> if (Values.isTrue(part(0))) part(1) else part(2)
            "or" -> part(0).let { if (Values.isTrue(it)) it else part(1) }
            "and" -> part(0).let { if (Values.isTrue(it)) part(1) else it }
            "not" -> !Values.isTrue(part(0))
            "negative" -> Values.binary("-", 0L, part(0))
            "binary" -> Values.binary(node.text, part(0), part(1))
            "block" -> captured { execute(node.parts[0], Scope(scope)) }
            "field" -> Values.field(part(0), node.text)
            "item" -> Values.item(part(0), part(1))
            "slice" -> Values.slice(part(0), node.parts.drop(1).map { value(it, scope) as Long? })
            "call" -> call(node, scope)
            "filter" -> arguments(node, scope) { given, named -> Filters.apply(node.text, part(0), given, named) }
            "test" -> if (node.text in listOf("defined", "undefined")) (part(0) != Undefined) == (node.text == "defined")
            else Filters.test(node.text, part(0), node.parts.getOrNull(1)?.let { value(it, scope) })
            else -> throw TemplateError(R.string.template_unknown, node.kind)
        }
    }

    private fun <T> arguments(node: Node, scope: Scope, use: (List<Any?>, Map<String, Any?>) -> T): T {
        val (named, given) = node.parts.drop(1).partition { it.kind == "named" }
        return use(given.map { value(it, scope) }, named.associate { it.text to value(it.parts[0], scope) })
    }

    private fun call(node: Node, scope: Scope): Any? = arguments(node, scope) { given, named ->
        val called = node.parts[0]
        if (called.kind == "field") {
            val of = value(called.parts[0], scope)
            if (of !is Map<*, *> || of[called.text] == null) return@arguments Filters.method(of, called.text, given)
        }
        val function = if (called.kind == "name") scope.find(called.text) else value(called, scope)
        if (function !is Callable) throw TemplateError(R.string.template_unknown, called.text)
        function.call(given, named)
    }

    private companion object {
        /** A day that templates take for today, as toolkit/data/template.py has it: the same chats give the same data on any day. */
        val DAY = listOf(
            "%d" to "26", "%-d" to "26", "%e" to "26", "%m" to "07", "%b" to "Jul", "%B" to "July", "%y" to "24", "%Y" to "2024",
            "%a" to "Fri", "%A" to "Friday",
        )

        val BUILTINS = mapOf(
            "namespace" to Callable { _, named -> Namespace().apply { putAll(named) } },
            "dict" to Callable { _, named -> named },
            "raise_exception" to Callable { given, _ -> throw TemplateError(R.string.template_says, given.joinToString()) },
            "strftime_now" to Callable { given, _ -> DAY.fold(given[0] as String) { format, (code, word) -> format.replace(code, word) } },
            "range" to Callable { given, _ ->
                val numbers = given.map { it as Long }
                if (numbers.size > 2) throw TemplateError(R.string.template_unknown, "range(…, …, …)")
                val begin = if (numbers.size > 1) numbers[0] else 0L
                (begin until numbers[if (numbers.size > 1) 1 else 0]).toList()
            },
        )
    }
}
