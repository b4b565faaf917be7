package dev.toolkit.trainer

import java.io.File

/** The engine's processes that are children of this one. */
object Children {
    fun ids(): List<Int> {
        val own = File("/proc/self").canonicalFile.name
        return File("/proc").listFiles { file -> file.name.all(Char::isDigit) }.orEmpty().filter { process ->
            val fields = runCatching { File(process, "stat").readText() }.getOrNull()?.substringAfterLast(") ")?.split(' ')
            val name = runCatching { File(process, "comm").readText() }.getOrNull().orEmpty()
            fields != null && fields[0] != "Z" && fields[1] == own && name.startsWith("libld-")
        }.map { it.name.toInt() }
    }

    /** Sends a signal to the one there is. */
    fun kill(signal: String = "-9") = send(signal, ids().single())

    fun send(signal: String, id: Int) = ProcessBuilder("kill", signal, id.toString()).start().waitFor()
}
