package dev.toolkit.trainer.template

import dev.toolkit.trainer.R
import org.json.JSONObject

/** What Python does with values. */
internal object Values {
    fun isTrue(value: Any?): Boolean = when (value) {
        null, Undefined, false, 0L, 0.0 -> false
        is String -> value.isNotEmpty()
        is Collection<*> -> value.isNotEmpty()
        is Map<*, *> -> value.isNotEmpty()
        else -> true
    }

    fun text(value: Any?): String = when (value) {
        null -> "None"
        Undefined -> ""
        true -> "True"
        false -> "False"
        is String, is Long, is Double -> value.toString()
        else -> throw TemplateError(R.string.template_unfit, "{{ }}")
    }

    fun list(value: Any?): List<Any?> = when (value) {
        is List<*> -> value
        is Map<*, *> -> value.keys.toList()
        is String -> value.map { it.toString() }
        Undefined -> emptyList()
        else -> throw TemplateError(R.string.template_unfit, "for")
    }

    fun field(of: Any?, name: String): Any? = when (of) {
        is Map<*, *> -> if (of.containsKey(name)) of[name] else Undefined
        Undefined -> throw TemplateError(R.string.template_unfit, name)
        else -> Undefined
    }

    fun item(of: Any?, index: Any?): Any? = when {
        of is Map<*, *> -> if (of.containsKey(index)) of[index] else Undefined
        of is List<*> && index is Long -> of.getOrElse(if (index < 0) (of.size + index).toInt() else index.toInt()) { Undefined }
        of is String && index is Long -> (if (index < 0) of.length + index else index).toInt().let { of.getOrNull(it)?.toString() ?: Undefined }
        of == Undefined -> throw TemplateError(R.string.template_unfit, "[$index]")
        else -> Undefined
    }

    fun slice(of: Any?, bounds: List<Long?>): Any? {
        val all = list(of)
        val step = bounds.getOrNull(2) ?: 1L
        if (step != 1L && step != -1L) throw TemplateError(R.string.template_unknown, "[::$step]")
        fun bound(index: Int, other: Int): Int {
            val given = bounds.getOrNull(index) ?: return other
            return (if (given < 0) given + all.size else given).coerceIn(if (step < 0) -1L else 0L, all.size.toLong()).toInt()
        }
        val part = if (step > 0) {
            val begin = bound(0, 0)
            all.subList(begin, maxOf(begin, bound(1, all.size)))
        } else {
            (bound(0, all.size - 1).coerceAtMost(all.size - 1) downTo bound(1, -1) + 1).map { all[it] }
        }
        return if (of is String) part.joinToString("") else part
    }

    fun binary(operator: String, left: Any?, right: Any?): Any? = when (operator) {
        "==" -> same(left, right)
        "!=" -> !same(left, right)
        "in" -> when (right) {
            is String -> left is String && left in right
            is Map<*, *> -> right.containsKey(left)
            is List<*> -> right.any { same(it, left) }
            else -> throw TemplateError(R.string.template_unfit, "in")
        }
        "~" -> text(left) + text(right)
        "+" -> when {
            left is String && right is String -> left + right
            left is List<*> && right is List<*> -> left + right
            else -> number(operator, left, right)
        }
        "*" -> if (left is String && right is Long) left.repeat(right.toInt()) else number(operator, left, right)
        "<", ">", "<=", ">=" -> ordered(operator, compare(left, right))
        else -> number(operator, left, right)
    }

    fun same(left: Any?, right: Any?): Boolean =
        if (left is Number && right is Number) left.toDouble() == right.toDouble() else left == right

    private fun compare(left: Any?, right: Any?): Int = when {
        left is Number && right is Number -> left.toDouble().compareTo(right.toDouble())
        left is String && right is String -> left.compareTo(right)
        else -> throw TemplateError(R.string.template_unfit, "<")
    }

    private fun ordered(operator: String, order: Int) = when (operator) {
        "<" -> order < 0
        ">" -> order > 0
        "<=" -> order <= 0
        else -> order >= 0
    }

    private fun number(operator: String, left: Any?, right: Any?): Any {
        if (left !is Long || right !is Long) throw TemplateError(R.string.template_unfit, operator)
        return when (operator) {
            "+" -> left + right
            "-" -> left - right
            "*" -> left * right
            "%" -> Math.floorMod(left, right)
            "//" -> Math.floorDiv(left, right)
            else -> throw TemplateError(R.string.template_unknown, operator)
        }
    }
}

/** Filters, tests and methods by their names. */
internal object Filters {
    fun apply(name: String, value: Any?, given: List<Any?>, named: Map<String, Any?>): Any? = when (name) {
        "trim" -> trimmed(Values.text(value), given.getOrNull(0), true, true)
        "length", "count" -> (if (value is String) value.codePointCount(0, value.length) else if (value is Map<*, *>) value.size else Values.list(value).size).toLong()
        "upper", "lower", "capitalize", "replace", "title" -> method(Values.text(value), name, given)
        "string" -> Values.text(value)
        "safe" -> value
        "int" -> value as? Long ?: Values.text(value).trim().toLongOrNull() ?: 0L
        "list" -> Values.list(value)
        "first" -> Values.list(value).firstOrNull() ?: Undefined
        "last" -> Values.list(value).lastOrNull() ?: Undefined
        "reverse" -> Values.list(value).reversed()
        "items" -> method(value, "items", given)
        "default", "d" -> if (value == Undefined || given.getOrNull(1) == true && !Values.isTrue(value)) given.getOrElse(0) { "" } else value
        "join" -> Values.list(value).joinToString(given.getOrElse(0) { "" } as String, transform = Values::text)
        "map" -> named["attribute"]?.let { field -> Values.list(value).map { Values.field(it, field as String) } }
            ?: Values.list(value).map { apply(given[0] as String, it, given.drop(1), emptyMap()) }
        "selectattr", "rejectattr" -> Values.list(value).filter {
            val field = Values.field(it, given[0] as String)
            val fits = if (given.size == 1) Values.isTrue(field) else test(given[1] as String, field, given.getOrNull(2))
            fits == (name == "selectattr")
        }
        "tojson" -> if (named.isEmpty() && given.isEmpty()) json(value) else throw TemplateError(R.string.template_unknown, "tojson(…)")
        else -> throw TemplateError(R.string.template_unknown, name)
    }

    fun test(name: String, value: Any?, other: Any?): Boolean = when (name) {
        "none" -> value == null
        "string" -> value is String
        "mapping" -> value is Map<*, *>
        "iterable", "sequence" -> value is String || value is List<*> || value is Map<*, *>
        "number" -> value is Number
        "integer" -> value is Long
        "boolean" -> value is Boolean
        "true" -> value == true
        "false" -> value == false
        "even" -> value is Long && value % 2 == 0L
        "odd" -> value is Long && value % 2 != 0L
        "in" -> Values.binary("in", value, other) as Boolean
        "equalto", "eq", "sameas", "==" -> Values.same(value, other)
        "ne", "!=" -> !Values.same(value, other)
        "defined" -> value != Undefined
        else -> throw TemplateError(R.string.template_unknown, name)
    }

    fun method(of: Any?, name: String, given: List<Any?>): Any? = when {
        of is String -> textMethod(of, name, given)
        of is Map<*, *> && name == "items" -> of.entries.map { listOf(it.key, it.value) }
        of is Map<*, *> && name == "keys" -> of.keys.toList()
        of is Map<*, *> && name == "values" -> of.values.toList()
        of is Map<*, *> && name == "get" -> if (of.containsKey(given[0])) of[given[0]] else given.getOrNull(1)
        else -> throw TemplateError(R.string.template_unfit, name)
    }

    private fun textMethod(of: String, name: String, given: List<Any?>): Any? {
        fun text(index: Int) = given[index] as? String ?: throw TemplateError(R.string.template_unfit, name)
        return when (name) {
            "strip" -> trimmed(of, given.getOrNull(0), true, true)
            "lstrip" -> trimmed(of, given.getOrNull(0), true, false)
            "rstrip" -> trimmed(of, given.getOrNull(0), false, true)
            "split" -> if (given.isEmpty()) of.split(Regex("\\s+")).filter(String::isNotEmpty)
            else of.split(text(0), limit = (given.getOrNull(1) as Long?)?.let { it.toInt() + 1 } ?: 0)
            "startswith" -> of.startsWith(text(0))
            "endswith" -> of.endsWith(text(0))
            "replace" -> of.replace(text(0), text(1))
            "upper" -> of.uppercase()
            "lower" -> of.lowercase()
            "find" -> of.indexOf(text(0)).toLong()
            "capitalize" -> of.take(1).uppercase() + of.drop(1).lowercase()
            "title" -> Regex("\\p{L}+").replace(of) { it.value.take(1).uppercase() + it.value.drop(1).lowercase() }
            else -> throw TemplateError(R.string.template_unknown, name)
        }
    }

    private fun trimmed(text: String, characters: Any?, left: Boolean, right: Boolean): String {
        fun goes(c: Char) = if (characters is String) c in characters else JinjaLexer.isSpace(c)
        val begun = if (left) text.trimStart(::goes) else text
        return if (right) begun.trimEnd(::goes) else begun
    }

    private fun json(value: Any?): String = when (value) {
        is Map<*, *> -> value.entries.joinToString(prefix = "{", postfix = "}") { "${json(it.key)}: ${json(it.value)}" }
        is List<*> -> value.joinToString(prefix = "[", postfix = "]", transform = ::json)
        is String -> JSONObject.quote(value).replace("\\/", "/")
        is Boolean, is Long, is Double -> value.toString()
        null -> "null"
        else -> throw TemplateError(R.string.template_unfit, "tojson")
    }
}
