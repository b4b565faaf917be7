package dev.toolkit.trainer.store

import dev.toolkit.trainer.tokenizer.TokenizerFile
import org.json.JSONObject
import java.io.File

/** Of data.json and the token files beside it, as toolkit/data/fingerprint.py has it. */
const val DATA_FORMAT_VERSION = 2

/** Makes training data from the user's text. The text itself is not kept, only its tokens. */
class TextData(private val folders: AppFolders) {
    /**
     * Writes data set [name] for [bundle]; one text is one document.
     *
     * @throws AppException no text, an unknown tokenizer, a taken name, or a full storage
     */
    fun make(name: String, bundle: Bundle, texts: List<String>): DataSet {
        val folder = File(folders.data, Names.check(name, "data set"))
        if (folder.exists()) throw AppException("There is training data “$name” already. Choose another name or delete it.")
        val documents = texts.filter { it.isNotBlank() }
        if (documents.isEmpty()) throw AppException("There is no text to learn from.")
        val file = TokenizerFile(bundle.folder)
        val tokenizer = file.read()
        val begin = file.beginToken()
        val end = file.endToken()
        val length = bundle.sequenceLengths.max()
        val sequences = Sequences(length, file.padToken())
        for (text in documents) {
            var tokens = tokenizer.encode(text)
            // The text itself may begin with the token that the tokenizer puts first.
            if (tokens.size > 1 && tokens[0] == begin && tokens[1] == begin) tokens = tokens.copyOfRange(1, tokens.size)
            sequences.add(if (end == null || tokens.lastOrNull() == end) tokens else tokens + end)
        }
        val rows = sequences.rows()
        if (rows.isEmpty()) throw AppException("The text is too short: the model needs at least two tokens.")
        write(folder, bundle, documents.size, sequences, rows, length)
        return DataStore(folders).require(name)
    }

    private fun write(
        folder: File, bundle: Bundle, documents: Int, sequences: Sequences, rows: List<Array<IntArray>>, length: Int,
    ) {
        val part = File(folders.data, "${folder.name}.part")
        part.deleteRecursively()
        try {
            TokenFile(rows.size, length, bundle.tokenizer).write(File(part, "train.ptd"), rows)
            val train = JSONObject().put("documents", documents).put("sequences", rows.size)
                .put("tokens", sequences.tokens).put("labelled", sequences.tokens)
            val report = JSONObject().put("version", DATA_FORMAT_VERSION).put("bundle", bundle.name).put("train", train)
                .put("tokenizer", bundle.tokenizer?.let { JSONObject().put("name", it.name).put("sha256", it.sha256) } ?: JSONObject.NULL)
                .put("settings", JSONObject().put("seq_len", length))
            // Written last: a folder without it is no data set.
            File(part, "data.json").writeAtomically { it.write((report.toString(2) + "\n").toByteArray()) }
            if (!part.renameTo(folder)) throw AppException("The training data cannot be saved. Free some space and try again.")
        } finally {
            part.deleteRecursively()
        }
    }

    companion object {
        /** Most bytes of one picked file. */
        const val LARGEST_FILE = 32 shl 20
    }
}
