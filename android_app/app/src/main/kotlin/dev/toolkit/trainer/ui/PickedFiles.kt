package dev.toolkit.trainer.ui

import android.net.Uri
import android.os.Bundle
import android.util.Log
import android.view.ViewGroup
import android.widget.ImageButton
import android.widget.TextView
import dev.toolkit.trainer.R
import dev.toolkit.trainer.TrainerApp
import dev.toolkit.trainer.service.Doing
import dev.toolkit.trainer.store.AppException
import dev.toolkit.trainer.store.TextData

/**
 * The files that were picked or shared: their rows on the screen, what each of them is, and what is to be said of it.
 *
 * @param changed called when files came or went, or something was said of them
 */
class PickedFiles(private val screen: Screen, saved: Bundle?, private val changed: () -> Unit) {
    /** @property isBusy whether it is being asked about or looked at */
    private class Picked(val file: Document, val found: Inspected? = null, val isBusy: Boolean = false)

    private val app = TrainerApp.of(screen)
    private val picked = LinkedHashMap<Uri, Picked>()
    private val choices = FileChoices(screen, saved, changed)

    val all: List<Document> get() = picked.values.map { it.file }

    /** Whether all is known that it takes to read them: nothing is being looked at, and of chats it was said who the user is. */
    val isReady: Boolean get() = picked.values.none { it.isBusy } && choices.isComplete

    fun chosen() = choices.choices()

    /** Takes in again what was picked; the permission to read it lasts as long as this task, so its address is enough. */
    fun restore(state: Bundle?) = add(state?.getStringArrayList(PICKED).orEmpty().map(Uri::parse))

    fun save(state: Bundle) {
        state.putStringArrayList(PICKED, ArrayList(picked.keys.map { it.toString() }))
        choices.save(state)
    }

    fun add(uris: List<Uri>) {
        // Only what the picker gives: a file address could lead to the app's own files.
        val fresh = uris.filter { it.scheme == "content" && it !in picked }.distinct()
        if (picked.size + fresh.size > MOST_FILES) screen.tell(screen.getString(R.string.too_many_files, MOST_FILES))
        val taken = fresh.take(MOST_FILES - picked.size)
        if (taken.isEmpty()) return
        taken.forEach { picked[it] = Picked(Document.of(it), isBusy = true) }
        show()
        screen.inBackground({ taken.map { Document.describe(app.contentResolver, it) } }) { described ->
            described.filter { it.uri in picked }.forEach { picked[it.uri] = Picked(it) }
            show()
            look()
        }
    }

    fun clear() {
        picked.clear()
        show()
    }

    /**
     * Looks at all of every file that was not looked at yet, for a chat has to say who speaks, as far as there is memory for it
     * beside a run; then does [next]. False where there was nothing to look at.
     */
    fun look(next: () -> Unit = {}): Boolean {
        val fresh = picked.values.filter { it.found == null && !it.isBusy && crowded(neededMb(it.file)) == null }.map { it.file }
        fresh.forEach { picked[it.uri] = Picked(it, isBusy = true) }
        for (file in fresh) screen.inBackground({ inspected(file) }) { found ->
            if (file.uri in picked) picked[file.uri] = Picked(file, found)
            show()
            if (file === fresh.last()) next()
        }
        if (fresh.isNotEmpty()) show()
        return fresh.isNotEmpty()
    }

    private fun inspected(file: Document): Inspected = try {
        Inspected.of(file.name, file.read(app))
    } catch (_: AppException) {
        // Why it cannot be read is said when it has to be.
        Inspected.NOTHING
    } catch (error: Throwable) {
        Log.w("toolkit", "a file that cannot be looked at", error)
        Inspected.NOTHING
    }

    /** Why there is no room for so much beside the run that trains, or null: the system may have to end the app and its run. */
    fun crowded(needMb: Long = NEEDED_MB): String? {
        val training = app.controller.active?.takeIf { it.doing != Doing.WAITING } ?: return null
        val now = app.conditions.read()
        return if (now.lowMemory || now.freeMb < needMb) screen.getString(R.string.text_beside_run, training.name, now.freeMb) else null
    }

    /** Of a file as it is parsed; what does not say its size may have the largest. */
    private fun neededMb(file: Document): Long {
        val largest = TextData.LARGEST_FILE.toLong()
        return NEEDED_MB * (if (file.bytes > 0) file.bytes.coerceAtMost(largest) else largest) / largest
    }

    private fun show() {
        val list = screen.requireViewById<ViewGroup>(R.id.files)
        list.removeAllViews()
        for (one in picked.values) {
            val row = screen.layoutInflater.inflate(R.layout.item_kept, list, false)
            row.requireViewById<TextView>(R.id.kept_name).text = one.file.name
            val what = if (one.isBusy) screen.getString(R.string.import_begins) else one.found?.words(screen)
            row.requireViewById<TextView>(R.id.kept_details).text =
                listOfNotNull(what, if (one.file.bytes > 0) Numbers.bytes(one.file.bytes) else null).joinToString(" · ")
            row.requireViewById<ImageButton>(R.id.delete).apply {
                // Not the bin of what is deleted for good.
                setImageResource(R.drawable.ic_remove)
                contentDescription = screen.getString(R.string.remove_file, one.file.name)
                setOnClickListener {
                    picked.remove(one.file.uri)
                    show()
                }
            }
            list.addView(row)
        }
        choices.show(picked.values.mapNotNull { it.found })
        changed()
    }

    private companion object {
        const val PICKED = "picked"
        const val MOST_FILES = 100

        /** Of a tokenizer with a large vocabulary and a file of the largest size. */
        const val NEEDED_MB = 400L
    }
}
