package dev.toolkit.trainer.store

import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder

/**
 * Writes training data: the int32 tensors tokens, labels, positions and start, each [sequences, length], then what tells the
 * tokenizer (toolkit/bundle/identity.py).
 */
class TokenFile(private val sequences: Int, private val length: Int, private val tokenizer: TokenizerName?) {
    /** Writes the file; [rows] has the four tensors of one sequence each, in the order of the names. */
    fun write(file: File, rows: List<Array<IntArray>>) {
        require(rows.size == sequences && rows.all { row -> row.size == NAMES.size && row.all { it.size == length } })
        val tensors = NAMES.mapIndexed { index, name ->
            FlatTensor(name, FlatTensorFile.INT32, intArrayOf(sequences, length)) { write -> for (row in rows) write(bytesOf(row[index])) }
        }
        val texts = texts().map { (name, bytes) -> FlatTensor(name, FlatTensorFile.UINT8, intArrayOf(bytes.size)) { it(bytes) } }
        FlatTensorFile(tensors + texts).write(file)
    }

    /** What tells the tokenizer, by the names of the tensors. */
    private fun texts(): Map<String, ByteArray> = tokenizer?.let {
        val digest = ByteArray(it.sha256.length / 2) { at -> it.sha256.substring(2 * at, 2 * at + 2).toInt(16).toByte() }
        mapOf("tokenizer.sha256" to digest, "tokenizer.name" to it.name.toByteArray().take(LONGEST_NAME).toByteArray())
    }.orEmpty()

    private fun bytesOf(values: IntArray): ByteArray {
        val buffer = ByteBuffer.allocate(4 * values.size).order(ByteOrder.LITTLE_ENDIAN)
        for (value in values) buffer.putInt(value)
        return buffer.array()
    }

    private companion object {
        val NAMES = listOf("tokens", "labels", "positions", "start")
        const val LONGEST_NAME = 200
    }
}
