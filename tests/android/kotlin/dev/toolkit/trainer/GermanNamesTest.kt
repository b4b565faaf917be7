package dev.toolkit.trainer

import android.app.Activity
import android.widget.EditText
import dev.toolkit.trainer.Fixtures.await
import dev.toolkit.trainer.ui.NewRunActivity
import dev.toolkit.trainer.ui.TextActivity
import org.junit.Assert.assertEquals
import org.junit.Before
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.annotation.Config

/** Names that the app gives by itself are of the user's language, and names of files all the same. */
@RunWith(RobolectricTestRunner::class)
@Config(qualifiers = "de")
class GermanNamesTest {
    @get:Rule val temporary = TemporaryFolder()

    @Before
    fun deploy() {
        Fixtures.create(Fixtures.deploy(temporary), "training")
    }

    private fun name(screen: Class<out Activity>): String {
        val controller = Robolectric.buildActivity(screen).setup()
        val field = controller.get().requireViewById<EditText>(R.id.name)
        await("a name") { field.text.isNotEmpty() }
        return field.text.toString().also { controller.close() }
    }

    @Test
    fun `runs and training data`() {
        assertEquals("training-2", name(NewRunActivity::class.java))
        assertEquals("mein-text", name(TextActivity::class.java))
    }
}
