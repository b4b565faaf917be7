package dev.toolkit.trainer.chats

import dev.toolkit.trainer.R

/** One record to one document, by the names of its fields: toolkit/data/formats/records.py. */
internal object Records {
    private val PAIRS = listOf(
        "prompt" to "completion", "prompt" to "response", "instruction" to "response", "instruction" to "output", "question" to "answer",
        "input" to "output",
    )
    private val NESTED = setOf("messages", "conversations", "history", "tools")

    /** Names of columns of texts that are known; those that hold lists, [isNested], are read from a table as JSON. */
    val FIELDS = PAIRS.flatMap { it.toList() }.toSet() + setOf("text", "system", "context")
    private val ROLES = listOf("system", "developer", "user", "assistant", "tool", "function", "ipython").associateWith { if (it == "developer") "system" else it } +
        listOf("human", "prompter").associateWith { "user" } + listOf("gpt", "chatgpt", "bot", "model", "ai").associateWith { "assistant" }

    /** @throws RowRefused it is no record of a known kind */
    fun document(value: Any?, where: String): TextDocument {
        val record = value as? Map<*, *> ?: refuse(where, R.string.record_no_object)
        if (record["tools"] != null) refuse(where, R.string.record_tools)
        if ("messages" in record) return TextDocument(where, messages = messages(record["messages"], where))
        if ("conversations" in record) return TextDocument(where, messages = system(record, where) + messages(record["conversations"], where))
        for ((question, answer) in PAIRS) if (question in record && answer in record) return pair(record, question, answer, where)
        if ("text" in record) return TextDocument(where, text = text(record["text"], where))
        refuse(where, R.string.record_unknown, record.keys.joinToString())
    }

    private fun pair(record: Map<*, *>, question: String, answer: String, where: String): TextDocument {
        if (record[question] is List<*> && record[answer] is List<*>) {
            return TextDocument(where, messages = messages(record[question], where) + messages(record[answer], where))
        }
        val asked = withContext(record, question, text(record[question], where), where)
        val said = text(record[answer], where)
        val earlier = history(record["history"], where)
        val system = system(record, where)
        if (earlier.isEmpty() && system.isEmpty()) return TextDocument(where, prompt = asked, completion = said)
        val turns = (earlier + (asked to said)).flatMap { listOf(message("user", it.first), message("assistant", it.second)) }
        return TextDocument(where, messages = system + turns)
    }

    private fun system(record: Map<*, *>, where: String): List<Message> {
        val content = record["system"] ?: return emptyList()
        return if (content == "") emptyList() else listOf(message("system", text(content, where)))
    }

    /** What is asked with what it refers to: below an instruction, above a question. */
    private fun withContext(record: Map<*, *>, question: String, prompt: String, where: String): String {
        val isInstruction = question == "instruction"
        val names = if (isInstruction) listOf("input", "context") else listOf("context")
        val parts = names.mapNotNull { record[it] }.filter { it != "" }.map { text(it, where) }
        if (parts.isEmpty()) return prompt
        return (if (isInstruction) listOf(prompt) + parts else parts + prompt).filter(String::isNotBlank).joinToString("\n\n")
    }

    private fun history(value: Any?, where: String): List<Pair<String, String>> {
        if (value == null) return emptyList()
        val turns = value as? List<*> ?: refuse(where, R.string.record_no_list)
        return turns.map { turn ->
            if (turn !is List<*> || turn.size != 2) refuse(where, R.string.record_no_list)
            text(turn[0], where) to text(turn[1], where)
        }
    }

    private fun messages(value: Any?, where: String): List<Message> {
        val list = value as? List<*> ?: refuse(where, R.string.record_no_list)
        return list.map { entry ->
            var message = entry as? Map<*, *> ?: refuse(where, R.string.record_no_object)
            // ShareGPT's names.
            if ("role" !in message && "from" in message && "value" in message) message = mapOf("role" to message["from"], "content" to message["value"])
            val role = ROLES[(message["role"] as? String)?.lowercase()] ?: refuse(where, R.string.record_role, "${message["role"]}")
            if (message["tool_calls"] != null) refuse(where, R.string.record_tools)
            message.entries.associate { it.key.toString() to it.value } + message(role, content(message["content"], where))
        }
    }

    private fun content(value: Any?, where: String): String {
        if (value !is List<*>) return text(value, where)
        return value.joinToString("") { part ->
            if (part !is Map<*, *> || part["type"] != "text") refuse(where, R.string.record_no_text)
            text(part["text"], where)
        }
    }

    fun message(role: String, content: String): Message = mapOf("role" to role, "content" to content)

    private fun text(value: Any?, where: String): String = value as? String ?: refuse(where, R.string.record_no_text)

    private fun refuse(where: String, what: Int, vararg names: String): Nothing = throw RowRefused(where, what, *names)

    fun isNested(name: String) = name in NESTED

    /** Whether a record of these fields is of a known kind. */
    fun isDocument(names: List<String>) =
        listOf("text", "messages", "conversations").any { it in names } || PAIRS.any { (question, answer) -> question in names && answer in names }
}
