package dev.toolkit.trainer.store

import dev.toolkit.trainer.R
import dev.toolkit.trainer.Words
import dev.toolkit.trainer.chats.DocumentEncoder
import dev.toolkit.trainer.chats.RowRefused
import dev.toolkit.trainer.chats.TextDocument
import dev.toolkit.trainer.tokenizer.TokenizerFile
import java.io.File
import org.json.JSONObject

/** Of data.json and the token files beside it, as toolkit/data/fingerprint.py has it. */
const val DATA_FORMAT_VERSION = 2

/** Makes training data from the user's text. The text itself is not kept, only its tokens. */
class TextData(private val folders: AppFolders) {
    @Volatile var cancelled = false
        private set

    /** Ends [make] after the text that it is at; nothing is left of it. */
    fun cancel() {
        cancelled = true
    }

    /** The same of texts, each a document. */
    fun make(name: String, bundle: Bundle, texts: Iterable<String>, heldOutOf: Int = LEAST_TO_HOLD_OUT): DataSet =
        make(name, bundle, texts.asSequence().map { TextDocument("", text = it) }, heldOutOf)

    /**
     * Writes data set [name] for [bundle]. A twentieth of the sequences is held out where that is at least [heldOutOf] sequences, to
     * see what the model makes of text it does not learn from.
     *
     * @throws AppException no text, an unknown tokenizer, a taken name, or a full storage
     */
    fun make(name: String, bundle: Bundle, documents: Sequence<TextDocument>, heldOutOf: Int = LEAST_TO_HOLD_OUT): DataSet {
        val folder = File(folders.data, Names.check(name, R.string.what_data))
        if (folder.exists()) throw AppException(Words.of(R.string.data_exists, name), field = "name")
        val file = TokenizerFile(bundle.folder)
        val length = bundle.sequenceLengths.max()
        val encoder = DocumentEncoder(file, length) { tokens ->
            // Gemma's tokenizer has a token for images that its small models have no row for.
            tokens.firstOrNull { it >= bundle.vocabulary }?.let {
                throw AppException(Words.of(R.string.token_without_row, it, bundle.vocabulary))
            }
        }
        var learned = 0
        val unlearned = sortedSetOf<Int>()
        try {
            for (document in documents) {
                if (cancelled) throw AppException(Words.of(R.string.text_cancelled))
                val why = encoder.add(document)
                if (why == null) learned++ else unlearned += why
            }
        } catch (error: RowRefused) {
            throw AppException(error.message.orEmpty(), error)
        }
        if (cancelled) throw AppException(Words.of(R.string.text_cancelled))
        val rows = encoder.rows()
        if (rows.isEmpty()) {
            // An empty field beside a file explains nothing.
            val reasons = unlearned.minus(R.string.no_text).ifEmpty { setOf(R.string.no_text) }
            throw AppException(reasons.joinToString(" ") { Words.of(it, length) })
        }
        val part = Part(length, bundle, learned)
        val (held, kept) = rows.withIndex().partition { rows.size >= heldOutOf && it.index % HELD_OUT == HELD_OUT / 2 }
        write(folder, part, kept.map { it.value }, held.map { it.value })
        return DataStore(folders).require(name)
    }

    private class Part(val length: Int, val bundle: Bundle, val documents: Int) {
        fun write(file: File, rows: List<Array<IntArray>>): JSONObject {
            TokenFile(rows.size, length, bundle.tokenizer).write(file, rows)
            val labelled = rows.sumOf { row -> row[1].count { it >= 0 }.toLong() }
            // A piece ends with what is learned of it.
            val tokens = rows.sumOf { row -> row[1].indexOfLast { it >= 0 } + 1L }
            return JSONObject().put("documents", documents).put("sequences", rows.size).put("tokens", tokens).put("labelled", labelled)
        }
    }

    private fun write(folder: File, set: Part, rows: List<Array<IntArray>>, held: List<Array<IntArray>>) {
        val part = File(folders.data, folder.name + Leftovers.PART)
        part.deleteTree()
        try {
            val report = JSONObject().put("version", DATA_FORMAT_VERSION).put("bundle", set.bundle.name)
                .put("train", set.write(File(part, "train.ptd"), rows))
                .put("tokenizer", set.bundle.tokenizer?.let { JSONObject().put("name", it.name).put("sha256", it.sha256) } ?: JSONObject.NULL)
                .put("settings", JSONObject().put("seq_len", set.length))
            if (held.isNotEmpty()) report.put("validation", set.write(File(part, "validation.ptd"), held))
            // Written last: a folder without it is no data set.
            File(part, "data.json").writeAtomically { it.write((report.toString(2) + "\n").toByteArray()) }
            if (!part.renameTo(folder)) throw AppException(Words.of(R.string.data_unsaved))
        } finally {
            part.deleteTree()
        }
    }

    companion object {
        /** Most bytes of one picked file. */
        const val LARGEST_FILE = 32 shl 20

        /** One sequence in so many is held out. */
        private const val HELD_OUT = 20
        private const val LEAST_TO_HOLD_OUT = HELD_OUT
    }
}
