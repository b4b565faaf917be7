package dev.toolkit.trainer.store

import java.io.OutputStream
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.security.MessageDigest
import java.util.zip.CRC32

/**
 * Sums up what is written, for the two tensors that stand behind all others in our .ptd files: toolkit/bundle/checksums.py
 * says which sums these are.
 */
class SummingOutput(private val out: OutputStream) {
    private val sha256 = MessageDigest.getInstance("SHA-256")
    private val checksums = mutableListOf<Int>()
    private var written = 0L

    /** Writes what gets a checksum of its own, the head or a tensor, from as many pieces as [write] hands on. */
    fun part(write: ((ByteArray) -> Unit) -> Unit) {
        val crc = CRC32()
        write { piece ->
            crc.update(piece)
            put(piece)
        }
        checksums += crc.value.toInt()
    }

    fun padTo(position: Long) = put(ByteArray((position - written).toInt()))

    /** Writes sha256 and checksums to their places. */
    fun finish(sha256At: Long, checksumsAt: Long) {
        padTo(sha256At)
        val digest = sha256.digest()
        part { it(digest) }
        padTo(checksumsAt)
        val sums = ByteBuffer.allocate(4 * (checksums.size + 1)).order(ByteOrder.LITTLE_ENDIAN)
        for (value in checksums) sums.putInt(value)
        val own = CRC32().apply { update(sums.array(), 0, sums.position()) }
        out.write(sums.putInt(own.value.toInt()).array())
    }

    private fun put(bytes: ByteArray) {
        out.write(bytes)
        sha256.update(bytes)
        written += bytes.size
    }
}
