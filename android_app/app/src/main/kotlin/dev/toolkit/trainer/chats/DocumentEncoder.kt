package dev.toolkit.trainer.chats

import dev.toolkit.trainer.R
import dev.toolkit.trainer.Words
import dev.toolkit.trainer.store.AppException
import dev.toolkit.trainer.store.Sequences
import dev.toolkit.trainer.tokenizer.TokenizerFile

/**
 * Documents to training rows, as toolkit/data/encode.py makes pieces of them: of chats the assistant's tokens are learned, of a
 * completion its own, of a text all.
 *
 * @param length of a row
 * @param checked told every list of tokens
 */
class DocumentEncoder(private val file: TokenizerFile, private val length: Int, private val checked: (IntArray) -> Unit) {
    private val tokenizer = file.read()
    private val sequences = Sequences(length, file.padToken())
    private val template = file.chatTemplate()
    private val chats by lazy { ChatEncoder(file, tokenizer, template ?: throw AppException(Words.of(R.string.no_template))) }

    fun rows(): List<Array<IntArray>> = sequences.rows()

    /** Takes it in; returns why there is nothing to learn in it, a sentence of the resources, or null where there is. */
    fun add(document: TextDocument): Int? {
        val messages = document.messages
        return when {
            messages != null -> addChat(messages)
            document.prompt == null -> addText(document.text.orEmpty())
            template != null -> addChat(listOf(Records.message("user", document.prompt), Records.message("assistant", document.completion)))
            else -> joined(document.prompt, document.completion).let { if (addPiece(it)) null else unlearned(it) }
        }
    }

    private fun addText(text: String): Int? {
        if (text.isBlank()) return R.string.no_text
        val tokens = withEnd(begun(text)).also(checked)
        sequences.add(tokens)
        return if (tokens.size > 1) null else R.string.text_short
    }

    /** What is too long is cut off at its end, where the reply is. */
    private fun unlearned(part: Encoded) = if (part.tokens.size > length + 1) R.string.chat_unlearned else R.string.chat_no_reply

    private fun addPiece(encoded: Encoded): Boolean {
        checked(encoded.tokens)
        val count = minOf(encoded.tokens.size, length + 1)
        return sequences.add(encoded.tokens.copyOf(count), encoded.mask.copyOf(count))
    }

    private fun addChat(all: List<Message>): Int? {
        val messages = all.subList(0, all.indexOfLast { it["role"] == "assistant" } + 1)
        if (messages.isEmpty()) return R.string.chat_no_reply
        val parts = fitting(messages)?.let { sequenceOf(it) } ?: conversations(messages)
        var learned = false
        var why = R.string.chat_no_reply
        for (encoded in parts.flatten()) {
            if (addPiece(encoded)) learned = true else if (why == R.string.chat_no_reply) why = unlearned(encoded)
        }
        return if (learned) null else why
    }

    /** A chat's renderings, null where one of them does not fit. */
    private fun fitting(messages: List<Message>): List<Encoded>? {
        if (chats.length(messages) > length + 1) return null
        return chats.encode(messages).takeIf { parts -> parts.all { it.tokens.size <= length + 1 } }
    }

    /** Cuts a long chat before user turns into chats that fit, each with the system message; too long an exchange is cut off. */
    private fun conversations(messages: List<Message>): Sequence<List<Encoded>> = sequence {
        val (system, parts) = exchanges(messages)
        var current = emptyList<Message>()
        var encoded = emptyList<Encoded>()
        for (exchange in parts) {
            var longer = fitting(system + current + exchange)
            if (longer == null && current.isNotEmpty()) {
                yield(encoded)
                current = emptyList()
                longer = fitting(system + exchange)
            }
            current = current + exchange
            encoded = longer ?: chats.encode(system + current)
        }
        yield(encoded)
    }

    /** Leading system messages, and the rest cut before each user turn after a reply. */
    private fun exchanges(messages: List<Message>): Pair<List<Message>, List<List<Message>>> {
        val system = messages.takeWhile { it["role"] == "system" }
        val parts = ArrayList<ArrayList<Message>>()
        var replied = true
        for (message in messages.drop(system.size)) {
            if (replied && (message["role"] == "user" || parts.isEmpty())) {
                parts += ArrayList<Message>()
                replied = false
            }
            parts.last() += message
            replied = replied || message["role"] == "assistant"
        }
        return system to parts
    }

    /** Prompt and completion apart, as when it is asked, where the prompt comes alone. */
    private fun joined(prompt: String, completion: String): Encoded {
        val head = begun(prompt)
        val tokens = head + withEnd(continued(completion))
        return Encoded(tokens, BooleanArray(tokens.size) { it >= head.size })
    }

    /** The beginning of a text, which may be written with the token that begins it; without the one that some put behind. */
    private fun begun(text: String): IntArray {
        var tokens = tokenizer.encode(text)
        val begin = file.beginToken()
        if (tokens.size > 1 && tokens[0] == begin && tokens[1] == begin) tokens = tokens.copyOfRange(1, tokens.size)
        val end = file.endToken() ?: return tokens
        val added = tokens.lastOrNull() == end && tokenizer.encode(text, special = false).lastOrNull() != end
        return if (added) tokens.copyOf(tokens.size - 1) else tokens
    }

    /** What follows other text, without the space that some put before every text. */
    private fun continued(text: String): IntArray {
        val tokens = tokenizer.encode(text, special = false)
        val one = tokenizer.encode("a", special = false)
        val writer = file.detokenizer()
        if (((one + one).joinToString("") { writer.add(it) } + writer.rest()).endsWith("aa")) return tokens
        val before = tokenizer.encode("\n", special = false)
        val both = tokenizer.encode("\n" + text, special = false)
        return if (both.copyOf(before.size).contentEquals(before)) both.copyOfRange(before.size, both.size) else tokens
    }

    private fun withEnd(tokens: IntArray): IntArray {
        val end = file.endToken()
        return if (end == null || tokens.lastOrNull() == end) tokens else tokens + end
    }
}
