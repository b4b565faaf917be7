package dev.toolkit.trainer.engine

/** Receives lines of JSON in UTF-8 on the thread that computes. */
fun interface LineListener {
    fun line(text: ByteArray)
}
