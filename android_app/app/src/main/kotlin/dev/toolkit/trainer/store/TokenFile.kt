package dev.toolkit.trainer.store

import java.io.File
import java.io.OutputStream
import java.nio.ByteBuffer
import java.nio.ByteOrder

/**
 * Writes training data: a FlatTensor file (toolkit/bundle/flat_tensor_header.py describes the format) with the
 * int32 tensors tokens, labels, positions and start, each [sequences, length].
 */
class TokenFile(private val sequences: Int, private val length: Int) {
    /** Writes the file; [rows] has the four tensors of one sequence each, in the order of the names. */
    fun write(file: File, rows: List<Array<IntArray>>) {
        require(rows.size == sequences && rows.all { row -> row.size == NAMES.size && row.all { it.size == length } })
        val bytes = sequences * length * 4
        val stride = aligned(bytes)
        val table = table(bytes, stride)
        val base = aligned(HEAD + table.size)
        file.writeAtomically { out ->
            out.write(head(table, base, 3 * stride + bytes))
            out.pad(base - HEAD - table.size)
            for (tensor in NAMES.indices) {
                for (row in rows) out.write(row[tensor])
                if (tensor + 1 < NAMES.size) out.pad(stride - bytes)
            }
        }
    }

    private fun OutputStream.write(values: IntArray) {
        val buffer = little(4 * values.size)
        for (value in values) buffer.putInt(value)
        write(buffer.array())
    }

    private fun OutputStream.pad(bytes: Int) = write(ByteArray(bytes))

    /** Root offset, identifier and extended header; then the table, whose offsets are all relative. */
    private fun head(table: ByteArray, base: Int, segments: Int): ByteArray {
        val root = HEAD + ByteBuffer.wrap(table).order(ByteOrder.LITTLE_ENDIAN).getInt(0)
        val buffer = little(HEAD + table.size)
        buffer.putInt(root).put("FT01".toByteArray()).put("FH01".toByteArray()).putInt(EXTENDED)
        buffer.putLong(HEAD.toLong()).putLong(table.size.toLong()).putLong(base.toLong()).putLong(segments.toLong())
        buffer.position(HEAD)
        return buffer.put(table).array()
    }

    /** The flatbuffer, laid out forwards: what refers stands before what it refers to. */
    private fun table(bytes: Int, stride: Int): ByteArray {
        val out = little(4096)
        out.putInt(0).putInt(0)
        val root = out.table(intArrayOf(4, 8, 12), 16) // version, segments, tensors
        out.putInt(0, root)
        out.link(root + 8)
        out.putInt(NAMES.size)
        val segments = out.places(NAMES.size)
        for (i in NAMES.indices) {
            val segment = out.table(intArrayOf(8, 16), 24, alignment = 8) // offset, bytes
            out.putLong(segment + 8, i.toLong() * stride).putLong(segment + 16, bytes.toLong())
            out.putInt(segments + 4 * i, segment - (segments + 4 * i))
        }
        out.align(4)
        out.link(root + 12)
        out.putInt(NAMES.size)
        val tensors = out.places(NAMES.size)
        for ((i, name) in NAMES.withIndex()) {
            out.align(4)
            val named = out.table(intArrayOf(4, 8, 12), 16) // key, segment, layout
            out.putInt(tensors + 4 * i, named - (tensors + 4 * i)).putInt(named + 8, i)
            out.link(named + 4)
            out.putInt(name.length).put(name.toByteArray()).put(0)
            out.align(4)
            layout(out, named + 12)
        }
        return out.array().copyOf((out.position() + 7) / 8 * 8)
    }

    private fun layout(out: ByteBuffer, from: Int) {
        val layout = out.table(intArrayOf(4, 8, 12), 16) // type, sizes, order of dimensions
        out.putInt(from, layout - from)
        out.put(layout + 4, INT32)
        out.link(layout + 8)
        out.putInt(2).putInt(sequences).putInt(length)
        out.link(layout + 12)
        out.putInt(2).put(0).put(1)
        out.align(4)
    }

    /** Appends a vtable with its table of [size] bytes, zeroed, and returns the table's position. */
    private fun ByteBuffer.table(fields: IntArray, size: Int, alignment: Int = 4): Int {
        val vtable = 4 + 2 * fields.size
        while ((position() + vtable) % alignment != 0) put(0)
        val start = position()
        putShort(vtable.toShort()).putShort(size.toShort())
        for (field in fields) putShort(field.toShort())
        val table = position()
        putInt(table - start)
        repeat(size - 4) { put(0) }
        return table
    }

    private fun ByteBuffer.link(from: Int) = putInt(from, position() - from)

    private fun ByteBuffer.places(count: Int): Int = position().also { repeat(count) { putInt(0) } }

    private fun ByteBuffer.align(to: Int) {
        while (position() % to != 0) put(0)
    }

    private companion object {
        val NAMES = listOf("tokens", "labels", "positions", "start")
        const val ALIGNMENT = 16384
        const val HEAD = 48
        const val EXTENDED = 40
        const val INT32: Byte = 3

        fun aligned(value: Int): Int = (value + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT

        fun little(size: Int): ByteBuffer = ByteBuffer.allocate(size).order(ByteOrder.LITTLE_ENDIAN)
    }
}
